"""The figures of a study: one entry each says which tables it reads, its settings, and when a study has it.

The name of a figure is that of its module in ``sinkorigin.figures``, its caption, its rule (``plot_{name}``) and its files.
``draw`` of the module takes the tables, the settings and, where models are shown, their labels as keywords.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sinkorigin
from harness.config.interventions import intervention_figures, kind_modules, kinds_of
from harness.config.values import first_repeated
from harness.study import Study, with_directories
from sinkorigin.errors import SinkoriginError

Wildcards = dict[str, Any]
_HERE = "workflow_scripts/harness/figures.py"

# Table → its file in the folder of the study; any other table is a statistic of a model on a prompt set.
_FILES = {
    "anatomy": "statistics/{model}/anatomy.parquet",
    "history": "pretraining/{run}/seed={seed}/history.parquet",
    "training": "statistics/training/{run}/manifest.json",
    "by_seed": "statistics/pretraining_by_seed.parquet",
    "comparison": "statistics/pretraining_comparison.parquet",
    "ladder": "statistics/ladder.parquet",
    "ladder_slope": "statistics/ladder_slope.parquet",
    "learning_rates": "statistics/learning_rates.parquet",
    "first_look": "first_look/{model}/{prompts}/interventions.parquet",
    "claims": "claims.parquet",
    "claims_over_models": "claims_over_models.parquet",
}

# tables of edits, which may run on fewer sequences than the prompt set has
_OF_EDITS = ("interventions", "intervention_contrasts", "intervention_layers", "conversions", "mediation", "removals")


@dataclass(frozen=True)
class Figure:
    """One figure of a study.

    Attributes:
        name: name of its module, caption, rule and files.
        tables: the tables that it reads.
        covers: study → the wildcards of every file of a table; the files of a table are read as one, in this order.
        fewer: table that only some of these have → study → their wildcards.
        settings: study → what decides how it is drawn, beside tables and labels.
        loads: study → modules of ``sinkorigin`` that its module loads by name.
        when: whether `all` has it in this study.
        label: its name in the report; by default the name with spaces.
    """

    name: str
    tables: tuple[str, ...]
    covers: Callable[[Study], list[Wildcards]]
    settings: Callable[[Study], dict[str, Any]] = lambda study: {}
    loads: Callable[[Study], list[str]] = lambda study: []
    when: Callable[[Study], bool] = lambda study: True
    label: str = ""
    fewer: Mapping[str, Callable[[Study], list[Wildcards]]] = field(default_factory=dict)

    def patterns(self) -> dict[str, str]:
        """Table → its file in the folder of the study, with wildcards, as the rule that makes it names it."""
        return {table: _FILES.get(table, f"statistics/{{model}}/{{prompts}}/{table}.parquet") for table in self.tables}

    def shown(self, study: Study) -> list[Wildcards]:
        """What it covers, but for what any of its tables is missing of."""
        return [
            wildcards
            for wildcards in self.covers(study)
            if not any(study.missing.lacks(file) for file in self._files(study, wildcards).values())
        ]

    def _files(self, study: Study, wildcards: Wildcards) -> dict[str, str]:
        """Table → its file for these wildcards, of the tables that have one."""
        return {
            table: f"{study.folder}/{pattern.format(**wildcards)}"
            for table, pattern in self.patterns().items()
            if table not in self.fewer or wildcards in self.fewer[table](study)
        }

    def lacks(self, study: Study) -> list[str]:
        """Labels of the models, or names of the runs, that it covers and does not show, because a job failed."""
        shown, labels = self.shown(study), study.labels()
        left_out = [wildcards for wildcards in self.covers(study) if wildcards not in shown]
        names = (
            labels[wildcards["model"]] if "model" in wildcards else f"{wildcards['run']}, seed {wildcards['seed']}"
            for wildcards in left_out
            if wildcards
        )
        return list(dict.fromkeys(names))

    def sample(self, study: Study) -> str:
        """How many sequences its models read, or how many of them were edited, as it stands under the panels."""
        sizes: dict[tuple[int, int], list[str]] = {}
        edited_ones = any(table in _OF_EDITS for table in self.tables)
        for wildcards in self.shown(study):
            if (prompts := study.prompts.get(wildcards.get("prompts", ""))) is None:
                continue
            edits = study.edits.get((wildcards["model"], prompts.name), []) if edited_ones else []
            counts = [edit.sequences for edit in edits if edit.sequences is not None]
            counts += [study.config.mechanism.sequences] if set(self.tables) <= {"mediation", "removals"} else []
            names = sizes.setdefault((min([prompts.sequences, *counts]), prompts.length), [])
            names += [name] if (name := prompts.name.replace("_", " ")) not in names else []
        parts = [
            f"{count} sequences of {length} tokens ({', '.join(names)})" for (count, length), names in sizes.items()
        ]
        return f"n = {'; '.join(parts)}" if parts else ""

    def is_there(self, study: Study) -> bool:
        """Whether the study has it, and has anything for it to show."""
        return self.when(study) and bool(self.shown(study))

    def inputs(self, study: Study) -> dict[str, list[str]]:
        """Table → its files, or the manifests of directories of such, which are inputs too; and what names its models."""
        folders: dict[str, list[str]] = {}
        found: dict[str, list[str]] = {}
        every = [self._files(study, wildcards) for wildcards in self.shown(study)]
        for table, pattern in self.patterns().items():
            files = dict.fromkeys(of_one[table] for of_one in every if table in of_one)
            if pattern.endswith("/manifest.json"):
                folders |= with_directories(table, files)
            else:
                found[table] = list(files)
        labelled = study.provenances(wildcards["model"] for wildcards in self.shown(study) if "model" in wildcards)
        return folders | found | ({"provenance": labelled} if labelled else {})

    def outputs(self, study: Study) -> list[str]:
        """The files of the figure, one a format."""
        return [f"{study.folder}/figures/{self.name}.{format_}" for format_ in study.config.figures.formats]

    def modules(self, study: Study) -> list[str]:
        """Modules that are loaded by name to draw it."""
        return [f"sinkorigin.figures.{self.name}", *self.loads(study)]

    @property
    def description(self) -> str:
        """What it shows: the first line of its module."""
        module = Path(sinkorigin.__file__).parent / "figures" / f"{self.name}.py"
        return module.read_text(encoding="utf-8").partition("\n")[0].strip('"')

    @property
    def caption(self) -> str | None:
        """Its caption in the report, from the folder of the rules; None where it has none."""
        name = f"captions/{self.name}.rst"
        return f"../{name}" if (Path(__file__).parents[2] / name).is_file() else None

    def keywords(self, study: Study) -> dict[str, Any]:
        """Keywords of ``draw`` beside the tables: the settings, and the labels of the models that are shown."""
        shown = self.shown(study)
        keywords, labels = self.settings(study), study.labels()
        if models := dict.fromkeys(wildcards["model"] for wildcards in shown if "model" in wildcards):
            keywords = keywords | {"labels": {model: labels[model] for model in models}}
        if runs := {wildcards["run"] for wildcards in shown if "run" in wildcards} if "groups" in keywords else {}:
            keywords = keywords | {"groups": {run: name for run, name in keywords["groups"].items() if run in runs}}
        return keywords


def check_figures(figures: Iterable[Figure], made: Collection[str]) -> None:
    """Check before any job that each figure is registered once, and that what it is made from exists.

    Args:
        made: patterns of all files that rules make, in the folder of the study.

    Raises:
        SinkoriginError: a figure is registered twice, or has no module, or a table that no rule makes.
    """
    figures = list(figures)
    if twice := first_repeated(figure.name for figure in figures):
        raise SinkoriginError(f"{_HERE}: figure {twice} is registered twice; remove one entry")
    package = Path(sinkorigin.__file__).parent
    for figure in figures:
        file = package / "figures" / f"{figure.name}.py"
        if not file.is_file():
            raise SinkoriginError(f"{_HERE}: figure {figure.name} has no {file}; write it or remove the entry")
        for table, pattern in figure.patterns().items():
            if pattern not in made:
                raise SinkoriginError(
                    f"{_HERE}: figure {figure.name} reads {table}, but no rule makes {pattern}; correct the table's name"
                )


# ---- what a figure covers


def _pairs(study: Study, pairs: Iterable[tuple[str, str]]) -> list[Wildcards]:
    """Some pairs of a model and a prompt set, without those of a model's second and further random weights."""
    controls: dict[str, str] = {}
    for name, model in study.models.items():
        if model.kind == "random":
            controls.setdefault(model.place, name)
    further = {name for name, model in study.models.items() if model.kind == "random" and controls[model.place] != name}
    return [{"model": model, "prompts": prompts} for model, prompts in pairs if model not in further]


def every_prompts(study: Study) -> list[Wildcards]:
    """Every model on every prompt set that it reads."""
    return _pairs(study, study.studied)


def shown_prompts(study: Study) -> list[Wildcards]:
    """Every model on one prompt set: a fetched one on the first that it reads, one trained here on text, as it was trained."""
    return _first_of(
        study, lambda pair: pair["model"] in study.trained and study.prompts[pair["prompts"]].kind != "natural_text"
    )


def every_condition(study: Study) -> list[Wildcards]:
    """Every model on the first prompt set of each kind and first token that it reads."""
    return _first_of_each(study, every_prompts(study))


def _first_of_each(study: Study, pairs: list[Wildcards]) -> list[Wildcards]:
    """First prompt set of each kind and first token, of each model: other lengths and draws are robustness, in the ledger."""
    found: dict[tuple, Wildcards] = {}
    for pair in pairs:
        prompts = study.prompts[pair["prompts"]]
        found.setdefault((pair["model"], prompts.kind, prompts.first_token), pair)
    return list(found.values())


def every_condition_of_fetched(study: Study) -> list[Wildcards]:
    """Every fetched model on the first prompt set of each kind and first token that it reads, each trained here on text."""
    shown = shown_prompts(study)
    return [pair for pair in every_condition(study) if pair["model"] in study.models or pair in shown]


def varied_prompts(study: Study) -> list[Wildcards]:
    """Every model on one prompt set, whose first token varies where it reads such a set: else position 0 has no variance."""
    return _first_of(study, lambda pair: study.first_token_of(SimpleNamespace(**pair)) != "drawn")


def _first_of(study: Study, last: Callable[[Wildcards], bool]) -> list[Wildcards]:
    """The first prompt set of every model, of those that are not ``last`` where there are any."""
    first: dict[str, Wildcards] = {}
    for pair in every_prompts(study):
        found = first.setdefault(pair["model"], pair)
        if last(found) and not last(pair):
            first[pair["model"]] = pair
    return list(first.values())


def edited(study: Study) -> list[Wildcards]:
    """Every model on the first prompt set of each kind and first token on which it is edited, random weights on the first one."""
    pairs = _first_of_each(study, _pairs(study, study.edits))
    first: dict[str, Wildcards] = {}
    for pair in pairs:
        first.setdefault(pair["model"], pair)
    controls = {name for name, model in study.models.items() if model.kind == "random"}
    return [pair for pair in pairs if pair["model"] not in controls or pair is first[pair["model"]]]


def edited_as_drawn(study: Study) -> list[Wildcards]:
    """Those of a drawn first token, on which all kinds and strengths run; all where there are none."""
    drawn = [pair for pair in edited(study) if study.prompts[pair["prompts"]].first_token == "drawn"]
    return drawn or edited(study)


def followed(study: Study) -> list[Wildcards]:
    """Every model on every prompt set on which edits of it are followed through the chain."""
    return [{"model": model, "prompts": prompts} for model, prompts in study.followed]


def edited_where_followed(study: Study) -> list[Wildcards]:
    """Every prompt set on which a model is edited, of the models of which edits are followed through the chain."""
    models = {model for model, _ in study.followed}
    return [pair for pair in edited(study) if pair["model"] in models]


def first_look(study: Study) -> list[Wildcards]:
    """The model and prompt set of the first look."""
    return [{"model": model, "prompts": prompts} for model, prompts in study.first_look()]


def fetched_by_first_token(study: Study) -> list[Wildcards]:
    """Every fetched model on every prompt set that another one differs from in its first token alone."""
    names = [name for group in study.first_tokens() for name in group.values()]
    return _pairs(study, product(study.models, names))


def trainings(study: Study) -> list[Wildcards]:
    """Every run with every seed."""
    return [{"run": run.name, "seed": seed} for run, seed in study.trained.values()]


def whole_study(study: Study) -> list[Wildcards]:
    """The study as one, whose tables have no wildcards."""
    return [{}]


# ---- settings


def trained_apart(study: Study) -> dict[str, Any]:
    """Each model trained here, which has a row of its own → the prompt set on which it is shown."""
    return {"trained": {p["model"]: p["prompts"] for p in shown_prompts(study) if p["model"] in study.trained}}


def small_models(study: Study) -> dict[str, Any]:
    """Each model with random weights or trained here, several of which share a row → the prompt set on which it is shown."""
    fetched = {name for name, model in study.models.items() if model.kind != "random"}
    return {"small": {p["model"]: p["prompts"] for p in shown_prompts(study) if p["model"] not in fetched}}


def shown_layers(study: Study) -> dict[str, Any]:
    """The layers whose variance is drawn, and the models trained here."""
    return {"layers": study.config.figures.variance_layers} | trained_apart(study)


def first_token_groups(study: Study) -> dict[str, Any]:
    """The groups of prompt sets that differ in their first token alone."""
    return {"groups": study.first_tokens()}


def compared_runs(study: Study) -> dict[str, Any]:
    """The groups of runs that are drawn together."""
    return {"groups": study.comparison_groups()}


def compared_models(study: Study) -> dict[str, Any]:
    """The groups of runs that are drawn together, and the prompt set on which their models are shown."""
    return compared_runs(study) | {"prompts": study.prompts_of_figures()}


# ---- when a study has a figure


def compares_first_tokens(study: Study) -> bool:
    """Whether fetched models read prompt sets that differ in their first token alone."""
    return bool(fetched_by_first_token(study))


def has_runs(study: Study) -> bool:
    """Whether the study trains models."""
    return bool(study.runs)


def has_ladder(study: Study) -> bool:
    """Whether the study trains a variant at several sizes."""
    return bool(study.ladder())


def intervention_figure(
    name: str, *tables: str, in_order: bool = False, covers: Callable[[Study], list[Wildcards]] = edited
) -> Figure:
    """A figure of interventions, which a study has where it makes an edit that the figure shows.

    Args:
        in_order: whether the figure gets the kinds of the study, in the order of its legend.
    """
    return Figure(
        name,
        tables,
        covers,
        settings=lambda study: {"kinds": kinds_of(study.config.interventions)} if in_order else {},
        loads=lambda study: kind_modules(study.config.interventions),
        when=lambda study: name in intervention_figures(study.edits_shown()),
    )


def followed_kinds(study: Study) -> list[str]:
    """Modules of the kinds of the edits that are followed through the chain."""
    return kind_modules(edit for edits in study.followed.values() for edit in edits)


def mechanism_figure(name: str, table: str, loads: Callable[[Study], list[str]] = lambda study: []) -> Figure:
    """A figure of edits that are followed through the chain, or of what is put into position 0."""
    return Figure(name, (table,), followed, loads=loads, when=lambda study: bool(study.followed))


FIGURES = (
    Figure("evidence", ("claims", "claims_over_models"), whole_study, when=lambda study: bool(study.models)),
    Figure("anatomy", ("anatomy", "norm_ratio", "sink_mass"), every_condition, small_models),
    Figure("variance_by_position", ("variance", "variance_trend"), varied_prompts, shown_layers),
    Figure(
        "variance_through_output",
        ("variance_through_output",),
        varied_prompts,
        trained_apart,
        label="variance through the output projection",
    ),
    Figure(
        "norm_and_sink_by_layer", ("norm_ratio", "norm_surge", "sink_mass", "sink_onset"), shown_prompts, trained_apart
    ),
    Figure("super_neurons", ("super_neurons", "super_neuron_surge"), shown_prompts, trained_apart),
    Figure("channel_sparsity", ("super_neurons",), shown_prompts, trained_apart),
    Figure("dominance_ratio_by_layer", ("disparity_by_layer",), shown_prompts, trained_apart),
    Figure("massive_activations", ("massive_activations",), shown_prompts, trained_apart),
    Figure("key_collapse", ("key_collapse",), shown_prompts, trained_apart),
    Figure("query_alignment", ("query_alignment", "alignment_correlation"), shown_prompts, trained_apart),
    Figure("sinks_by_position", ("sink_rate", "secondary_sinks"), every_condition_of_fetched, trained_apart),
    Figure(
        "sinks_by_first_token",
        ("first_positions",),
        fetched_by_first_token,
        first_token_groups,
        when=compares_first_tokens,
    ),
    Figure("effective_rank_by_layer", ("effective_rank",), shown_prompts, trained_apart),
    intervention_figure("sink_by_intervention", "interventions", in_order=True, covers=edited_as_drawn),
    intervention_figure("intervention_contrasts", "intervention_contrasts", in_order=True),
    intervention_figure("conversion_curves", "conversions", "curve_contrasts", in_order=True, covers=edited_as_drawn),
    intervention_figure("mask_by_layers_and_position", "interventions"),
    intervention_figure("edited_layers", "intervention_layers", in_order=True),
    intervention_figure("dispersion_grid", "interventions", "dispersion_grid"),
    intervention_figure("necessity", "interventions"),
    Figure(
        "position_or_token",
        ("interventions", "mediation"),
        edited_where_followed,
        first_token_groups,
        loads=lambda study: kind_modules(study.config.interventions),
        when=lambda study: bool(study.followed),
        fewer={"mediation": followed},
    ),
    mechanism_figure("chain", "mediation", followed_kinds),
    mechanism_figure("removals", "removals"),
    mechanism_figure("interchange", "mediation"),
    Figure("loss_curves", ("history",), trainings, compared_runs, when=has_runs),
    Figure("training_dynamics", ("history", "training"), trainings, compared_models, when=has_runs),
    Figure("pretraining_comparison", ("by_seed", "comparison"), whole_study, compared_models, when=has_runs),
    Figure("ladder", ("ladder", "ladder_slope"), whole_study, when=has_ladder),
    # the targets first_look and learning_rates alone demand these
    Figure(
        "first_look",
        ("variance", "norm_ratio", "sink_mass", "super_neurons", "first_look"),
        first_look,
        loads=lambda study: study.first_look_modules(),
        when=lambda study: False,
    ),
    Figure("learning_rates", ("learning_rates",), whole_study, compared_runs, when=lambda study: False),
)
