"""What the page of a study is made of beside the claims: figures, charts, tables, and what it says of the config."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import sinkorigin
from harness import snakemake_internals as internals
from harness.config.prompts import Prompts
from harness.figures import FIGURES, Figure
from harness.study import Pair, Study, with_directories
from sinkorigin.claims.first_tokens import NAMES

# address that the path of a file in the repository is added to, ending in "/"; the page names files without a link while it is empty
REPOSITORY = ""
_STUDY_IN_CAPTIONS = '{{ snakemake.config["study"] }}'  # Snakemake's report puts the name there
_TEMPLATES = ("templates/*.j2", "assets/*")


@dataclass(frozen=True)
class Chart:
    """An interactive chart of the page.

    Attributes:
        name: of its module in ``sinkorigin.page.charts``.
        table: the table that it is drawn from, see :func:`chart_tables`.
    """

    name: str
    table: str


# tables that the claims are judged into
JUDGEMENTS = ("claims", "robustness", "checks", "accounts")
CHARTS = (
    Chart("sink_map", "query_alignment"),
    Chart("attention_map", "attention_map"),
    Chart("sink_under_edit", "edited"),
    Chart("dose_response", "intervention_layers"),
)
# tables that the sentences below figures are made from, where no claim reads them
TOLD = (
    "query_alignment",
    "disparity_by_layer",
    "massive_activations",
    "effective_rank_mean",
    "sink_rate",
    "norm_ratio",
)
TOLD_OF_EDITS = ("intervention_layers",)


def chart_modules() -> list[str]:
    """Modules of the charts, which the job loads by name."""
    return [f"sinkorigin.page.charts.{chart.name}" for chart in CHARTS]


def demanded_figures(study: Study) -> list[str]:
    """Files of the figures that `all` has in this study, whether they are there or not."""
    return [file for figure in FIGURES if figure.when(study) for file in figure.outputs(study)]


def shown_figures(study: Study) -> list[Figure]:
    """The figures that `all` has in this study, as far as they are there."""
    return [
        figure
        for figure in FIGURES
        if figure.when(study) and study.missing.without(figure.outputs(study)) == figure.outputs(study)
    ]


def figure_files(study: Study) -> list[str]:
    """Files of these figures."""
    return [file for figure in shown_figures(study) for file in figure.outputs(study)]


def figure_facts(study: Study, root: Path) -> list[dict[str, Any]]:
    """Name and caption of each of these figures; a caption stands in ``root``/captions."""
    found = []
    for figure in shown_figures(study):
        file = root / "captions" / f"{figure.name}.rst"
        caption = file.read_text(encoding="utf-8") if file.is_file() else figure.description
        found.append({"name": figure.name, "caption": caption.replace(_STUDY_IN_CAPTIONS, study.config.study)})
    return found


def edited_tables(study: Study) -> dict[str, list[str]]:
    """Folders of the edits of pretrained models and of the unedited passes beside them, with their manifests, as inputs."""
    manifests = {"edited": "edited/interventions.json", "baseline": "baseline/manifest.json"}
    folders = [f"{study.folder}/interventions/{'/'.join(pair)}" for pair in edited_pairs(study)]
    whole = [
        folder
        for folder in folders
        if len(study.missing.without(f"{folder}/{manifest}" for manifest in manifests.values())) == len(manifests)
    ]
    found: dict[str, list[str]] = {}
    for name, manifest in manifests.items():
        found |= with_directories(name, [f"{folder}/{manifest}" for folder in whole])
    return found


def edited_pairs(study: Study) -> list[Pair]:
    """Models and prompt sets on which edits are shown by position: random weights, in which there is no sink, are left out."""
    return [pair for pair in study.edits if pair[0] not in study.models or study.models[pair[0]].kind != "random"]


def attention_maps(study: Study) -> list[str]:
    """Attention maps under the edits that are followed through the chain."""
    maps = (f"{study.folder}/interventions/{'/'.join(pair)}/attention_map.parquet" for pair in study.followed)
    return study.missing.without(maps)


def model_facts(study: Study) -> list[dict[str, Any]]:
    """Name, label and role of every model; source, licence and controls of fetched ones."""
    found = []
    for facts in study.judged_models():
        model = study.models.get(facts["name"])
        controls = [
            other.name for other in study.models.values() if other.kind == "random" and other.place == facts["name"]
        ]
        found.append(
            {
                **{name: facts[name] for name in ("name", "label", "role")},
                "source": None if model is None else model.source_text,
                "licence": None if model is None else model.licence,
                "controls": controls,
            }
        )
    return found


def prompt_facts(study: Study) -> list[dict[str, str]]:
    """Name and description of every prompt set that a model reads."""
    read = {prompts for _, prompts in study.studied}
    return [{"name": name, "text": _prompts_text(prompts)} for name, prompts in study.prompts.items() if name in read]


def _prompts_text(prompts: Prompts) -> str:
    kind = {"random_tokens": "random tokens", "natural_text": "held-out text"}.get(prompts.kind, prompts.kind)
    first = NAMES[prompts.first_token]
    return f"{prompts.sequences:,} × {prompts.length:,} tokens, {kind}; at position 0: {first}; seed {prompts.seed}"


def trainings_text(study: Study) -> str:
    """A sentence on the models that are trained here; "" where there are none."""
    if not study.runs:
        return ""
    variants = dict.fromkeys(run.variant.replace("_", " ") for run in study.runs.values())
    data = dict.fromkeys(run.data.replace("_", " ") for run in study.runs.values())
    return (
        f"{len(study.runs)} run{'s' if len(study.runs) > 1 else ''} of small models trained here, {len(study.trained)} models with all "
        f"seeds ({', '.join(variants)}), on {' and '.join(data)}"
    )


def table_makers(rules: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Name of a table → the rule that makes it, the rule's file, and the file of the code that computes it."""
    found: dict[str, dict[str, str]] = {}
    for name, rule in rules.items():
        statistic = dict(rule.params.items()).get("statistic")
        script = "" if rule.script is None else f"workflow_scripts/{PurePath(rule.script).name}"
        module = script if statistic is None else f"src/sinkorigin/statistics/{statistic}.py"
        for pattern in internals.output_patterns(rule):
            if PurePath(pattern).suffix == ".parquet":
                file = f"rules/{PurePath(str(rule.snakefile)).name}"
                found[PurePath(pattern).stem] = {"rule": name, "file": file, "module": module}
    return found


def job_logs(
    rules: Mapping[str, Any], jobs: Mapping[str, Iterable[Mapping[str, str]]]
) -> dict[str, list[tuple[str, str]]]:
    """Rule → log and code version of each of its jobs, see :class:`harness.code_version.Code`.

    Args:
        rules: name → rule.
        jobs: rule → the wildcards of each of its jobs.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for name, each in jobs.items():
        code = dict(rules[name].params.items()).get("code") if name in rules else None
        if code is not None:
            log = rules[name].log[0]
            found[name] = sorted((str(log.apply_wildcards(wildcards)), _version(code, wildcards)) for wildcards in each)
    return {name: logs for name, logs in found.items() if logs}


def _version(code: str | Callable[[Any], str], wildcards: Mapping[str, str]) -> str:
    return code(SimpleNamespace(**wildcards)) if callable(code) else code


def templates_version() -> str:
    """Hash of the templates, styles and scripts of the page, which no import shows."""
    folder = Path(sinkorigin.__file__).parent / "page"
    digest = hashlib.sha256()
    for file in sorted(file for pattern in _TEMPLATES for file in folder.glob(pattern)):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
