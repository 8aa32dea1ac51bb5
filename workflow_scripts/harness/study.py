"""One study as the rules see it: what it consists of, where its files lie, and what each job gets.

Most methods are input functions or parameter functions of Snakemake: they get a job's wildcards.
"""

import re
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snakemake.io import ancient, directory, local

from harness.config.interventions import Intervention, kind_modules, tables_needed
from harness.config.pretraining import BigramBackcopyData, Run, TextData
from harness.config.prompts import Prompts
from harness.config.study import Config
from harness.config.variants import OPTION_KEYS, VARIANTS, variant_module, variant_modules
from harness.missing import Missing
from harness.resources import Estimates
from sinkorigin.interventions.kind import SHOWN_STRENGTH, kind_named
from sinkorigin.interventions.layers import RULES

Wildcards = Any  # Snakemake's, with an attribute a wildcard
Pair = tuple[str, str]  # names of a model and of a prompt set that it reads

FIRST_LOOK = ("mask", "variance_amplification", "norm_control")  # kinds of edit


class Study:
    """Models, prompt sets, interventions and trainings of a study, and the paths of their files.

    Args:
        config: the study.
        device: "cpu", "cuda" or "mps", where models run; estimates depend on it.
        results: where the folder ``results`` lies; estimates look at what is there.
        missing: what claims and figures are to be made without, after a run that failed.

    Attributes:
        results: as above.
        folder: of the study's results.
        missing: as above; nothing in an ordinary run.
        models, prompts, data, runs: entries of the config, by name.
        trained: name of a model trained here → its run and seed.
        studied: (model, prompts) of every extraction: fetched models on the prompt sets that they read, trained ones on those of
            ``pretraining.prompts``.
        edits: (model, prompts) → the interventions there, for the pairs that have some.
        followed: (model, prompts) → the interventions there whose effect is followed through the chain; of fetched models and those
            trained here, not of random weights, in which there is none.
        sites: sites of which activations are kept.
        keeping: runs that keep checkpoints.
    """

    def __init__(self, config: Config, device: str, results: str = "results", missing: Missing | None = None):
        self.config = config
        self.device = device
        self.results = results
        self.missing = missing or Missing()
        self.folder = f"results/{config.study}"
        self.estimates = Estimates(config, device, Path(results))
        self.models = {model.name: model for model in config.models}
        self.prompts = {prompts.name: prompts for prompts in config.prompts}
        self.data = {data.name: data for data in config.pretraining.data}
        self.runs = {run.name: run for run in config.pretraining.runs}
        self.trained = config.trained
        self.studied: list[Pair] = [
            (model.name, prompts) for model in config.models for prompts in self.prompts if model.reads(prompts)
        ]
        self.studied += product(config.studied, config.pretraining.prompts)
        self.edits: dict[Pair, list[Intervention]] = {}
        for pair in self.studied:
            for edit in config.interventions:
                if edit.runs_on(*pair):
                    self.edits.setdefault(pair, []).append(edit)
        self.followed = {pair: causes for pair in self.edits if (causes := self._causes(pair))}
        self.sites = [kept.site for kept in config.activations.sites]
        self.keeping = [run.name for run in self.runs.values() if run.keep]

    def _causes(self, pair: Pair) -> list[Intervention]:
        """The interventions on a model and prompt set that are followed through the chain."""
        model, prompts = pair
        if model in self.models and self.models[model].kind == "random":
            return []
        return [edit for edit in self.edits[pair] if self.config.follows(edit, prompts)]

    def without(self, missing: Missing) -> "Study":
        """This study, without what is missing."""
        return Study(self.config, self.device, self.results, missing)

    # models

    def manifest(self, model: str) -> str:
        """Manifest of a model's directory: fetched, random, or trained here."""
        if model in self.trained:
            run, seed = self.trained[model]
            return f"{self.run_folder(run.name, seed)}/model/manifest.json"
        return f"results/models/{model}/manifest.json"

    def model_of(self, wildcards: Wildcards) -> str:
        """Manifest of the model that the wildcards name."""
        return self.manifest(wildcards.model)

    def base_model(self, wildcards: Wildcards) -> dict[str, str]:
        """The model whose architecture a random-weight control takes."""
        model = self.models[wildcards.model]
        return with_directory("base", self.manifest(model.place)) if model.kind == "random" else {}

    def labels(self) -> dict[str, str]:
        """Model → its label in the config, or its name; jobs add what a fetched model was dequantised from, by its provenance."""
        labels = {model.name: model.label or model.name for model in self.models.values()}
        trained = {name: f"{run.name.replace('_', ' ')}, seed {seed}" for name, (run, seed) in self.trained.items()}
        return labels | trained

    def provenances(self, models: Iterable[str]) -> list[str]:
        """Provenance of those of these models that are fetched."""
        fetched = (model for model in dict.fromkeys(models) if model in self.models)
        return self.missing.without(f"results/models/{model}.provenance.json" for model in fetched)

    def fetched_as(self, model: str) -> dict:
        """Everything that decides which files a fetched model has."""
        return self.models[model].model_dump(exclude={"shape", "label", "licence", "control", "prompts"})

    def trusts_remote_code(self, wildcards: Wildcards) -> bool:
        """Whether the config lets code that comes with this model run."""
        return wildcards.model in self.models and self.models[wildcards.model].trust_remote_code

    def local_model(self, wildcards: Wildcards) -> list[str]:
        """Files of a model on this machine, whose content counts."""
        from sinkorigin.models.fetching import local_model_files  # imports what most runs need not wait for

        model = self.models[wildcards.model]
        return _local(f"{model.kind}:{model.place}", local_model_files)

    def variant_modules(self, wildcards: Wildcards) -> list[str]:
        """Library modules of the attention variant of the model, or of the run, that the wildcards name."""
        if hasattr(wildcards, "run"):
            return [variant_module(self.runs[wildcards.run].variant)]
        return variant_modules(self.config, wildcards.model)

    # prompts and activations

    def corpus_for_text(self, wildcards: Wildcards) -> dict[str, str]:
        """The corpus, for prompts of natural text only."""
        return {"corpus": self.corpus_path} if self.reads_text(wildcards) else {}

    def reads_text(self, wildcards: Wildcards) -> bool:
        """Whether the prompts are text, on which a loss means something."""
        return self.prompts[wildcards.prompts].kind == "natural_text"

    def prompts_of(self, wildcards: Wildcards) -> str:
        """The prompts that the wildcards name, in the model's tokens."""
        model, prompts = wildcards.model, wildcards.prompts
        if model in self.trained:
            return self.data_prompts(self.trained[model][0], prompts)
        return f"{self.folder}/prompts/{model}/{prompts}.parquet"

    def data_prompts(self, run: Run, prompts: str) -> str:
        """A prompt set of the models that one run trained: all seeds and variants on the same data have the same."""
        return f"{self.folder}/pretraining/data/{run.data}/prompts/{_start(run)}/{prompts}.parquet"

    def length_of(self, wildcards: Wildcards) -> int:
        """Number of tokens of a sequence of a prompt set, T."""
        return self.prompts[wildcards.prompts].length

    def first_token_of(self, wildcards: Wildcards) -> str:
        """What the model's sequences of a prompt set begin with: "drawn", "bos" or "fixed"."""
        model, prompts = wildcards.model, self.prompts[wildcards.prompts]
        run = self.trained[model][0] if model in self.trained else None
        return self._first_token(run, prompts)

    def first_tokens_of_run(self, wildcards: Wildcards) -> dict[str, str]:
        """Each prompt set that a run's models are measured on → what their sequences of it begin with."""
        run = self.runs[wildcards.run]
        return {name: self._first_token(run, self.prompts[name]) for name in self.config.pretraining.measured_prompts}

    @staticmethod
    def _first_token(run: Run | None, prompts: Prompts) -> str:
        """What sequences of a prompt set begin with: text does with what a run was trained with."""
        as_trained = run is not None and run.first_token and prompts.kind == "natural_text"
        return "bos" if as_trained and prompts.first_token == "drawn" else prompts.first_token

    def first_tokens(self) -> list[dict[str, str]]:
        """Prompt sets that are compared: condition of the first token → name, for sets that differ in nothing else."""
        alike: dict[tuple, dict[str, str]] = {}
        for prompts in self.prompts.values():
            shape = prompts.kind, prompts.sequences, prompts.length, prompts.seed
            alike.setdefault(shape, {}).setdefault(prompts.first_token, prompts.name)
        return [conditions for conditions in alike.values() if len(conditions) > 1]

    def site_outputs(self) -> dict[str, str]:
        """Directories of kept activations and their manifests; Snakemake's cache demands a name for each."""
        folder = f"{self.folder}/activations/{{model}}/{{prompts}}"
        manifests = {site: f"{folder}/{site}/manifest.json" for site in self.sites}
        return {f"{site}_files": directory(f"{folder}/{site}") for site in self.sites} | manifests

    def kept_site(self, site: str) -> dict[str, str]:
        """Kept activations of a site."""
        return with_directory(site, f"{self.folder}/activations/{{model}}/{{prompts}}/{site}/manifest.json")

    def variance_sites(self) -> dict[str, list[str]]:
        """Kept activations of every site that has a variance by position."""
        kept = [self.kept_site(site)[site] for site in self.config.activations.variance_sites]
        return with_directories("sites", kept)

    def site_modules(self, wildcards: Wildcards) -> list[str]:
        """Library modules of the sites of which activations are kept."""
        return [f"sinkorigin.sites.definitions.{site}" for site in self.sites]

    # tables

    def table(self, name: str, pair: Pair) -> str:
        """A statistic's table of a model on a prompt set."""
        model, prompts = pair
        return f"{self.folder}/statistics/{model}/{prompts}/{name}.parquet"

    def tables(self, name: str, pairs: Iterable[Pair] | None = None) -> list[str]:
        """A statistic's table of every model on every prompt set, or of these pairs, but for what is missing."""
        return self.missing.without(self.table(name, pair) for pair in (self.studied if pairs is None else pairs))

    def read_by(self, wildcards: Wildcards) -> list[str]:
        """Prompt sets that the model reads."""
        return [prompts for model, prompts in self.studied if model == wildcards.model]

    def first_tokens_of(self, wildcards: Wildcards) -> list[str]:
        """Condition of the first token of each prompt set that the model reads."""
        pairs = (SimpleNamespace(model=wildcards.model, prompts=prompts) for prompts in self.read_by(wildcards))
        return list(map(self.first_token_of, pairs))

    def tables_of_anatomy(self, wildcards: Wildcards) -> dict[str, list[str]]:
        """Tables of one model that its anatomy is read from: on every prompt set, and on those on which it is edited."""
        from sinkorigin.statistics.anatomy import READS  # imports polars, which most runs need not wait for

        pairs = [(wildcards.model, prompts) for prompts in self.read_by(wildcards)]
        edited = [pair for pair in pairs if pair in self.edits]
        return {name: self.tables(name, pairs) for name in READS} | {"conversions": self.tables("conversions", edited)}

    # interventions

    def edited_positions(self, wildcards: Wildcards) -> list[int]:
        """Every target position of the interventions on this model and prompt set, as far as a later query can see it."""
        last = self.prompts[wildcards.prompts].length - 1
        return sorted({k for edit in self.edits_of(wildcards) for k in edit.targets if k < last})

    def edited_sequences(self, wildcards: Wildcards) -> int:
        """Number of sequences that the interventions on this model and prompt set run."""
        sequences = self.prompts[wildcards.prompts].sequences
        return max(edit.sequences or sequences - edit.calibration for edit in self.edits_of(wildcards))

    def edits_of(self, wildcards: Wildcards) -> list[Intervention]:
        """The interventions on this model and prompt set."""
        return self.edits[wildcards.model, wildcards.prompts]

    def tables_of_kinds(self, wildcards: Wildcards) -> dict[str, str]:
        """Tables of statistics that the interventions on this model and prompt set are computed from."""
        pair, needed = (wildcards.model, wildcards.prompts), tables_needed(self.edits_of(wildcards))
        return {table: self.table(table, pair) for table in needed}

    def tables_of_rules(self, wildcards: Wildcards) -> list[str]:
        """Names of the tables of statistics in which the layers of these interventions are found."""
        words = [edit.layers for edit in self.edits_of(wildcards) if isinstance(edit.layers, str)]
        return list(dict.fromkeys(table for word in words for table in RULES[word].tables))

    def tables_of_layers(self, wildcards: Wildcards) -> dict[str, str]:
        """Those tables: of the model, or of the one whose architecture it has, so that a control gets the same edits."""
        pair = (self.layers_like(wildcards) or wildcards.model, wildcards.prompts)
        return {f"{table}_of_layers": self.table(table, pair) for table in self.tables_of_rules(wildcards)}

    def layers_like(self, wildcards: Wildcards) -> str | None:
        """The model that a random-weight control takes its layers from; None for other models."""
        model = self.models.get(wildcards.model)
        return model.place if model is not None and model.kind == "random" else None

    def kind_modules(self, wildcards: Wildcards) -> list[str]:
        """Library modules of the kinds of intervention on this model and prompt set."""
        return kind_modules(self.edits_of(wildcards))

    def edits_shown(self) -> list[Intervention]:
        """Every intervention whose effects are there on any model and prompt set."""
        there = {
            edit.name
            for pair, edits in self.edits.items()
            if not self.missing.lacks(self.table("interventions", pair))
            for edit in edits
        }
        return [edit for edit in self.config.interventions if edit.name in there]

    def edit_parameters(self, wildcards: Wildcards) -> list[dict]:
        """What the edits of this model on this prompt set are."""
        return [
            edit.model_dump(exclude={"models", "controls", "prompts", "sequences"}) for edit in self.edits_of(wildcards)
        ]

    # mechanism

    def followed_edits(self, wildcards: Wildcards) -> list[dict]:
        """The followed edits, at their position and strength."""
        mechanism = self.config.mechanism
        place = {"positions": [mechanism.position]}
        return [
            edit.model_dump(exclude={"models", "controls", "prompts", "sequences"})
            | place
            | {"strengths": [mechanism.strength] if kind_named(edit.kind).has_doses() else edit.strengths[:1]}
            for edit in self.followed[wildcards.model, wildcards.prompts]
        ]

    def tables_of_chain(self, wildcards: Wildcards) -> dict[str, str]:
        """Tables of statistics in which the links of the chain are found."""
        return {
            name: self.table(name, (wildcards.model, wildcards.prompts)) for name in ("super_neurons", "norm_changes")
        }

    def followed_modules(self, wildcards: Wildcards) -> list[str]:
        """Library modules of the kinds of the followed edits."""
        return kind_modules(self.followed[wildcards.model, wildcards.prompts])

    # first look

    def first_look(self) -> list[Pair]:
        """The first fetched model on the first prompt set on which it gets all edits of the first look; empty where none does."""
        fetched = [name for name, model in self.models.items() if model.kind != "random"]
        found = [
            pair
            for pair in self.studied
            if pair[0] in fetched and {*FIRST_LOOK} <= {edit.kind for edit in self.edits.get(pair, [])}
        ]
        return found[:1]

    def first_edit_parameters(self, wildcards: Wildcards) -> list[dict]:
        """The edits of the first look: the study's first of each of its kinds, at the strength that stands for all."""
        edits = self.edit_parameters(wildcards)
        firsts = [next(edit for edit in edits if edit["kind"] == kind) for kind in FIRST_LOOK]
        return [
            edit | {"strengths": [min(edit["strengths"], key=lambda strength: abs(strength - SHOWN_STRENGTH))]}
            for edit in firsts
        ]

    def tables_of_first_look(self) -> dict[str, list[str]]:
        """Tables that the first look tells of, and the provenance of its model."""
        pairs = self.first_look()
        names = (
            "variance_trend", "norm_changes", "norm_ratio", "super_neurons", "disparity_by_layer", "key_collapse", "sink_mass",
            "sink_onset",
        )  # fmt: skip
        edits = [f"{self.folder}/first_look/{model}/{prompts}/interventions.parquet" for model, prompts in pairs]
        tables = {name: self.tables(name, pairs) for name in names} | {"first_look": edits}
        return tables | {"provenance": self.provenances(model for model, _ in pairs)}

    def first_look_modules(self) -> list[str]:
        """Library modules of the kinds of intervention of the first look."""
        return [f"sinkorigin.interventions.kinds.{kind}" for kind in FIRST_LOOK]

    # data of trainings

    @property
    def corpus_path(self) -> str:
        """The study's corpus, as a table of documents."""
        return f"{self.folder}/corpus/documents.parquet"

    def data_folder(self, wildcards: Wildcards) -> str:
        """Folder of what is made of the data that the wildcards name, or that their run trains on."""
        data = self.runs[wildcards.run].data if hasattr(wildcards, "run") else wildcards.data
        return f"{self.folder}/pretraining/data/{data}"

    def documents_of(self, wildcards: Wildcards) -> str:
        """Documents that the data are made from: of their corpus, or of the study's."""
        separate = corpus_of(self.data[wildcards.data])
        return f"{self.data_folder(wildcards)}/documents.parquet" if separate else self.corpus_path

    def local_corpus(self, wildcards: Wildcards) -> list[str]:
        """Files of a corpus on this machine, whose content counts: of the data that the wildcards name, or of the study."""
        corpus = corpus_of(self.data[wildcards.data]) if hasattr(wildcards, "data") else self.config.corpus
        from sinkorigin.corpora.fetching import local_corpus_files  # imports what most runs need not wait for

        return _local(corpus.source, lambda _: local_corpus_files(corpus.source, corpus.members))

    def local_tokenizer(self, wildcards: Wildcards) -> list[str]:
        """Files of a tokenizer on this machine, whose content counts."""
        # here, because it imports what most runs need not wait for
        from sinkorigin.pretraining.tokenizer import local_tokenizer_files

        return _local(getattr(self.data[wildcards.data], "tokenizer", None) or "", local_tokenizer_files)

    def tokenizer_of(self, wildcards: Wildcards) -> str:
        """Manifest of the tokenizer of the data that the wildcards name, or that their run trains on."""
        return f"{self.data_folder(wildcards)}/tokenizer/manifest.json"

    def tokens_of(self, wildcards: Wildcards) -> str:
        """Manifest of the token files of the data that the wildcards name, or that their run trains on."""
        return f"{self.data_folder(wildcards)}/tokens/manifest.json"

    def data_named(self, kind: str, tokenizer: str | None = None) -> str:
        """Pattern of the names of all data of a kind, or of those whose tokenizer is "trained" or "taken"."""
        data_of_kind = (data for data in self.data.values() if data.kind == kind)
        return one_of(data.name for data in data_of_kind if tokenizer in (None, _tokenizer(data)))

    def task_parameters(self, wildcards: Wildcards) -> dict:
        """What the synthetic task is made from."""
        data = self.data[wildcards.data]
        assert isinstance(data, BigramBackcopyData)
        return data.model_dump(exclude={"name", "kind"}) | {"validation_tokens": data.validation_tokens}

    # trainings

    def training_parameters(self, wildcards: Wildcards) -> dict:
        """What one training uses: its run without the other seeds, and without options of another variant."""
        run = self.runs[wildcards.run]
        return run.model_dump(exclude={"seeds", "data", "tuning", *OPTION_KEYS.values()}) | {"options": run.options}

    def swept_parameters(self, wildcards: Wildcards) -> dict:
        """What one training of the learning-rate sweep uses; its models are not kept."""
        trials = self.config.pretraining.trials(self.runs[wildcards.run])
        [trial] = [trial for trial in trials if trial.name == wildcards.learning_rate]
        run = self.training_parameters(wildcards)
        options = run["options"] | ({} if trial.option is None else {trial.option: trial.value})
        return run | {"learning_rate": trial.learning_rate, "options": options, "keep": []}

    def swept_option(self, wildcards: Wildcards) -> str | None:
        """Option of the run's variant that the sweep tunes beside the learning rate."""
        tuning = self.runs[wildcards.run].tuning
        return None if tuning is None else tuning.option

    def tuned(self) -> dict[str, dict]:
        """Run → what the study trains it with of what the sweep tunes: its learning rate, and the option if there is one."""
        found: dict[str, dict] = {}
        for run in self.runs.values():
            option = None if run.tuning is None else run.tuning.option
            found[run.name] = {
                "learning_rate": run.learning_rate,
                "option_value": None if option is None else run.options[option],
            }
        return found

    def swept_histories(self) -> list[str]:
        """Histories of every training of the sweep."""
        pretraining = self.config.pretraining
        return [
            f"{self.folder}/learning_rates/{run.name}/learning_rate={trial.name}/seed={seed}/history.parquet"
            for run in self.runs.values()
            for trial, seed in product(pretraining.trials(run), pretraining.learning_rates.seeds)
        ]

    def histories(self) -> list[str]:
        """Histories of every training."""
        return [f"{self.run_folder(run.name, seed)}/history.parquet" for run, seed in self.trained.values()]

    def timings(self) -> list[str]:
        """Times of every training."""
        return [f"{self.run_folder(run.name, seed)}/timing.parquet" for run, seed in self.trained.values()]

    def run_folder(self, run: str, seed: int) -> str:
        """Folder of one training."""
        return f"{self.folder}/pretraining/{run}/seed={seed}"

    def trained_models(self) -> dict[str, list[str]]:
        """Final models of every training."""
        return with_directories("model", [self.manifest(name) for name in self.trained])

    def checkpoints_of_run(self, wildcards: Wildcards) -> dict[str, list[str]]:
        """Final models, and kept checkpoints if there are some, of all seeds of a run, and the prompts that they read."""
        run = self.runs[wildcards.run]
        found = {"prompts": [self.data_prompts(run, prompts) for prompts in self.config.pretraining.measured_prompts]}
        for part in ["model", "checkpoints"] if run.keep else ["model"]:
            folders = [f"{self.run_folder(run.name, seed)}/{part}" for seed in run.seeds]
            found |= with_directories(part, [f"{folder}/manifest.json" for folder in folders])
        return found

    def measured_run(self, wildcards: Wildcards) -> dict:
        """What the statistics over its trainings need to know of a run."""
        needed = {"name", "variant", "seeds", "steps", "batch", "length", "keep"}
        return self.runs[wildcards.run].model_dump(include=needed)

    def training_statistics(self) -> dict[str, list[str]]:
        """Statistics over training of every run."""
        manifests = [f"{self.folder}/statistics/training/{run}/manifest.json" for run in self.runs]
        return with_directories("training", manifests)

    def compared_trainings(self) -> list[dict]:
        """Run, variant, seed and baseline of every training."""
        baselines = self.config.pretraining.baselines
        return [
            {"run": run.name, "variant": run.variant, "seed": seed, "baseline": baselines[run.name]}
            for run, seed in self.trained.values()
        ]

    def comparison_groups(self) -> dict[str, str]:
        """Run → what it shares with the runs that it is drawn with: its data, and its baseline."""
        baselines = self.config.pretraining.baselines
        return {run: f"{self.runs[run].data}, baseline {baseline or run}" for run, baseline in baselines.items()}

    def prompts_of_trainings(self) -> list[str]:
        """Prompt sets that trained models are measured on, held-out text, which they are trained for, first."""
        names = self.config.pretraining.measured_prompts
        return sorted(names, key=lambda name: self.prompts[name].kind != "natural_text")

    def ladder(self) -> list[dict]:
        """Run, baseline, and what ``statistics.ladder`` groups by, of every run of a variant that is trained at several sizes.

        The sizes are of the same data, and each has a baseline; the baselines are among the runs. Empty where there is no such variant.
        """
        baselines = self.config.pretraining.baselines
        families: dict[tuple, dict[tuple, list[dict]]] = {}  # what runs share → size → runs
        for run in self.runs.values():
            if (baseline := baselines[run.name]) is None:
                continue
            shared = {
                "data": run.data,
                "end_of_text_first": run.first_token,
                "length": run.length,
                "variant": run.variant,
            }
            shared["reading"] = VARIANTS[run.variant].reading(run.options)
            size = (run.layers, run.width, run.heads, run.kv_heads, run.ffn_width, run.tied_embeddings)
            facts = {"run": run.name, "baseline": baseline, **shared}
            families.setdefault(tuple(shared.values()), {}).setdefault(size, []).append(facts)
        several = [list(by_size.values()) for by_size in families.values() if len(by_size) > 1]
        found = [facts for sizes in several for runs in sizes for facts in runs]
        return found if any(facts["run"] != facts["baseline"] for facts in found) else []

    def prompts_of_figures(self) -> str | None:
        """The prompt set on which figures show trained models: the first of held-out text, else the first."""
        return next(iter(self.prompts_of_trainings()), None)

    # the whole study

    def comparisons(self, name: str) -> list[str]:
        """A table that compares all trainings; none in a study without trainings, or where it is missing."""
        return self.missing.without([f"{self.folder}/statistics/{name}.parquet"] if self.runs else [])

    def judged_models(self) -> list[dict]:
        """Name, label and role of every model, and what a trained one is."""
        labels = self.labels()
        judged: list[dict] = []
        for name, model in self.models.items():
            role = "random" if model.kind == "random" else "pretrained"
            judged.append({"name": name, "label": labels[name], "role": role})
        for name, (run, seed) in self.config.studied.items():
            training = {"run": run.name, "variant": run.variant, "seed": seed}
            reading = VARIANTS[run.variant].reading(run.options)
            judged.append({"name": name, "label": labels[name], "role": "trained", **training, "reading": reading})
        return judged

    def judged_runs(self) -> list[dict]:
        """Every run with its variant, its baseline, and a label that says which reading of the variant it is."""
        found = []
        for run, baseline in self.config.pretraining.baselines.items():
            variant = self.runs[run].variant
            reading = VARIANTS[variant].reading(self.runs[run].options)
            label = run.replace("_", " ") + (f" ({reading})" if reading else "")
            found.append({"name": run, "variant": variant, "baseline": baseline, "label": label})
        return found

    def judged_places(self) -> dict[str, list[dict]]:
        """Model → the conditions of the first token under which it is judged, each with its prompt sets: the first decides."""
        places: dict[str, dict[str, list[str]]] = {}
        for model, prompts in self.studied:
            condition = self.first_token_of(SimpleNamespace(model=model, prompts=prompts))
            places.setdefault(model, {}).setdefault(condition, []).append(prompts)
        return {
            model: [
                {"first_token": condition, "prompts": names[0], "further": names[1:]}
                for condition, names in found.items()
            ]
            for model, found in places.items()
        }

    def data_jobs(self) -> dict[str, list[dict[str, str]]]:
        """Rule → the wildcards of each of its jobs, for the rules that make the data of trainings."""
        used = [self.data[name] for name in dict.fromkeys(run.data for run in self.runs.values())]
        made: dict[str, list] = {
            "fetch_own_corpus": [data for data in used if corpus_of(data)],
            "train_tokenizer": [data for data in used if _tokenizer(data) == "trained"],
            "take_tokenizer": [data for data in used if _tokenizer(data) == "taken"],
            "tokenize_corpus": [data for data in used if data.kind == "text"],
            "make_bigram_backcopy": [data for data in used if data.kind == "bigram_backcopy"],
        }
        jobs = {rule: [{"data": data.name} for data in each] for rule, each in made.items()}
        return {"fetch_corpus": [] if all(map(corpus_of, used)) else [{}], **jobs}

    def jobs(self, statistics: Iterable[str]) -> dict[str, list[dict[str, str]]]:
        """Rule → the wildcards of each of its jobs, for all rules but those of the figures and the claims.

        Args:
            statistics: rules that compute a statistic of a model on a prompt set.
        """
        trainings = [{"run": run.name, "seed": str(seed)} for run, seed in self.trained.values()]
        studied = [{"model": model, "prompts": prompts} for model, prompts in self.studied]
        edited = [{"model": model, "prompts": prompts} for model, prompts in self.edits]
        followed = [{"model": model, "prompts": prompts} for model, prompts in self.followed]
        models = [{"model": model} for model in dict(self.studied)]
        fetched = [job for job in studied if job["model"] in self.models]
        starts = dict.fromkeys((run.data, _start(run)) for run in self.runs.values())
        jobs = self.data_jobs()
        if any(self.prompts[job["prompts"]].kind == "natural_text" for job in fetched):
            jobs["fetch_corpus"] = [{}]
        return jobs | {
            "fetch_model": [{"model": model} for model in self.models],
            "label_model": [{"model": model} for model in self.models],
            "tokenize_prompts": fetched,
            "measure_weights": models,
            "compute_anatomy": models,
            **dict.fromkeys(["extract_activations", *statistics], studied),
            **dict.fromkeys(
                ["resolve_interventions", "measure_baseline", "intervene", "compute_intervention_effects"], edited
            ),
            **dict.fromkeys(["follow_edits", "compute_mediation"], followed),
            "draw_data_prompts": [
                {"data": name, "start": start, "prompts": prompts}
                for (name, start), prompts in product(starts, self.config.pretraining.measured_prompts)
            ],
            "pretrain": [job for job in trainings if job["run"] not in self.keeping],
            "pretrain_with_checkpoints": [job for job in trainings if job["run"] in self.keeping],
            "measure_training": [{"run": run} for run in self.runs],
            **dict.fromkeys(
                ["summarize_pretraining", "compare_pretraining", "compare_pretraining_timing"],
                [{}] if self.runs else [],
            ),
            "compute_ladder": [{}] if self.ladder() else [],
        }


def corpus_of(data: Any):
    """The corpus that these data have beside the study's, or None."""
    return getattr(data, "corpus", None)


def with_directory(name: str, manifest: str) -> dict[str, str]:
    """A directory and its manifest as inputs called ``{name}_files`` and ``name``.

    The manifest says whether the directory changed. The directory is an input too, an ancient one, for jobs that start
    without a shared file system: their inputs are brought to them. It stands before its manifest, because they are brought
    in this order and a directory that has a file already counts as brought.
    """
    return {f"{name}_files": ancient(str(Path(manifest).parent)), name: manifest}


def with_directories(name: str, manifests: Iterable[str]) -> dict[str, list[str]]:
    """Several directories and their manifests as inputs, see :func:`with_directory`."""
    manifests = list(manifests)
    return {f"{name}_files": [ancient(str(Path(manifest).parent)) for manifest in manifests], name: manifests}


def directory_of(manifest: Callable[[Wildcards], str]) -> Callable[[Wildcards], str]:
    """Input function: the directory of a manifest that another input function names, see :func:`with_directory`."""
    return lambda wildcards: str(Path(manifest(wildcards)).parent)


def one_of(names: Iterable[str]) -> str:
    """Pattern of a wildcard that is one of these names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def all_wildcards(wildcards: Wildcards) -> dict[str, str]:
    """A job's wildcards, as a parameter: Snakemake's cache between workflows leaves them out of its key."""
    return dict(wildcards.items())


def _start(run: Run) -> str:
    """Folder of the prompts of models that a run trains: they begin with the end-of-text token, or not."""
    return "first_token" if run.first_token else "no_first_token"


def _tokenizer(data: TextData | BigramBackcopyData) -> str | None:
    """Whether the tokenizer of data is "trained" or "taken"; None where it is made with them."""
    if not isinstance(data, TextData):
        return None
    return "trained" if data.tokenizer is None else "taken"


def _local(source: str, files: Callable[[str], Iterable[str | Path]]) -> list[str]:
    """The files of a ``path:`` source, marked as files of this machine."""
    kind, _, place = source.partition(":")
    return [local(str(path)) for path in files(place)] if kind == "path" else []
