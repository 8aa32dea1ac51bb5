"""One study as the rules see it: what it consists of, where its files lie, and what each job gets.

Most methods are input functions or parameter functions of Snakemake: they get a job's wildcards.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from snakemake.io import ancient, local

from harness.config.interventions import Intervention
from harness.config.pretraining import OPTION_KEYS, Run
from harness.config.study import Config
from harness.resources import Estimates

Wildcards = Any  # Snakemake's, with an attribute a wildcard
Pair = tuple[str, str]  # names of a model and of a prompt set that it reads


class Study:
    """Models, prompt sets, interventions and trainings of a study, and the paths of their files.

    Args:
        config: the study.
        device: "cpu" or "cuda", where models run.

    Attributes:
        folder: of the study's results.
        models, prompts, data, runs: entries of the config, by name.
        trained: name of a model trained here → its run and seed.
        studied: (model, prompts) of every extraction: all fetched models on all prompt sets, trained ones on those of
            ``pretraining.prompts``.
        edits: (model, prompts) → the interventions there, for the pairs that have some.
    """

    def __init__(self, config: Config, device: str):
        self.config, self.device = config, device
        self.folder = f"results/{config.study}"
        self.estimates = Estimates(config, device)
        self.models = {model.name: model for model in config.models}
        self.prompts = {prompts.name: prompts for prompts in config.prompts}
        self.data = {data.name: data for data in config.pretraining.data}
        self.runs = {run.name: run for run in config.pretraining.runs}
        self.trained = config.trained
        self.studied: list[Pair] = [(model, prompts) for model in self.models for prompts in self.prompts]
        self.studied += [(model, prompts) for model in config.studied for prompts in config.pretraining.prompts]
        self.edits: dict[Pair, list[Intervention]] = {}
        for edit in config.interventions:
            for pair in self.studied:
                if pair[0] in edit.models and pair[1] in edit.prompts:
                    self.edits.setdefault(pair, []).append(edit)
        self.edits = {pair: self.edits[pair] for pair in self.studied if pair in self.edits}
        self.sites = [kept.site for kept in config.activations.sites]
        self.variance_sites = config.activations.variance_sites

    # models

    def manifest(self, model: str) -> str:
        """Manifest of a model's directory: fetched, random, or trained here."""
        if model in self.trained:
            run, seed = self.trained[model]
            return f"{self.folder}/pretraining/{run.name}/seed={seed}/model/manifest.json"
        return f"results/models/{model}/manifest.json"

    def model_of(self, wildcards: Wildcards) -> str:
        """Manifest of the model that the wildcards name."""
        return self.manifest(wildcards.model)

    def base_model(self, wildcards: Wildcards) -> dict[str, str]:
        """The model whose architecture a random-weight control takes."""
        kind, _, base = self.models[wildcards.model].source.partition(":")
        return with_directory("base", self.manifest(base)) if kind == "random" else {}

    def trusts_remote_code(self, wildcards: Wildcards) -> bool:
        """Whether the config lets code that comes with this model run."""
        return wildcards.model in self.models and self.models[wildcards.model].trust_remote_code

    def local_model(self, wildcards: Wildcards) -> list[str]:
        """Files of a model on this machine, whose content counts."""
        from sinkorigin.models.fetching import local_model_files  # imports what most runs need not wait for

        return _local(self.models[wildcards.model].source, local_model_files)

    def provenance(self, models: Iterable[str]) -> list[str]:
        """Files that say where the models come from and how this study labels them."""
        return [
            str(Path(self.manifest(name)).parents[1] / "provenance.json")
            if name in self.trained
            else f"{self.folder}/provenance/{name}.json"
            for name in dict.fromkeys(models)
        ]

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
        start = "first_token" if run.first_token else "no_first_token"
        return f"{self.folder}/pretraining/data/{run.data}/prompts/{start}/{prompts}.parquet"

    # tables

    def tables(self, name: str, pairs: Iterable[Pair] | None = None) -> list[str]:
        """A statistic's table of every model on every prompt set, or of these pairs."""
        chosen = self.studied if pairs is None else pairs
        return [f"{self.folder}/statistics/{model}/{prompts}/{name}.parquet" for model, prompts in chosen]

    def first_tables(self, name: str) -> list[str]:
        """A statistic's table of every model, on the first prompt set that it reads."""
        first: dict[str, str] = {}
        for model, prompts in self.studied:
            first.setdefault(model, prompts)
        return self.tables(name, first.items())

    def edited_tables(self, name: str) -> list[str]:
        """A table of the interventions of every model on every prompt set that has some."""
        return self.tables(name, self.edits)

    # interventions

    def edited_positions(self, wildcards: Wildcards) -> list[int]:
        """Every target position of the interventions on this model and prompt set."""
        return sorted({k for edit in self.edits_of(wildcards) for k in edit.targets})

    def edited_sequences(self, wildcards: Wildcards) -> int:
        """Number of sequences that the interventions on this model and prompt set run."""
        sequences = self.prompts[wildcards.prompts].sequences
        return max(edit.sequences or sequences - edit.calibration for edit in self.edits_of(wildcards))

    def edits_of(self, wildcards: Wildcards) -> list[Intervention]:
        """The interventions on this model and prompt set."""
        return self.edits[wildcards.model, wildcards.prompts]

    def edit_parameters(self, wildcards: Wildcards) -> list[dict]:
        """What the edits of this model on this prompt set are."""
        return [edit.model_dump(exclude={"models", "prompts", "sequences"}) for edit in self.edits_of(wildcards)]

    # data of trainings

    @property
    def corpus_path(self) -> str:
        """The study's corpus, as a table of documents."""
        return f"{self.folder}/corpus/documents.parquet"

    def data_folder(self, data: str) -> str:
        """Folder of what is made of some data."""
        return f"{self.folder}/pretraining/data/{data}"

    def documents_of(self, wildcards: Wildcards) -> str:
        """Documents that the data are made from: of their corpus, or of the study's."""
        separate = corpus_of(self.data[wildcards.data])
        return f"{self.data_folder(wildcards.data)}/documents.parquet" if separate else self.corpus_path

    def local_corpus(self, wildcards: Wildcards) -> list[str]:
        """Files of a corpus on this machine, whose content counts: of the data that the wildcards name, or of the study."""
        corpus = corpus_of(self.data[wildcards.data]) if hasattr(wildcards, "data") else self.config.corpus
        from sinkorigin.corpora.fetching import local_corpus_files  # imports what most runs need not wait for

        return _local(corpus.source, lambda _: local_corpus_files(corpus.source, corpus.members))

    def local_tokenizer(self, wildcards: Wildcards) -> list[str]:
        """Files of a tokenizer on this machine, whose content counts."""
        from sinkorigin.pretraining.taken_tokenizer import (
            local_tokenizer_files,  # imports what most runs need not wait for
        )

        return _local(self.data[wildcards.data].tokenizer, local_tokenizer_files)

    def tokenizer_of(self, wildcards: Wildcards) -> str:
        """Manifest of the tokenizer of the data that the wildcards name, or that their run trains on."""
        return f"{self.data_folder(self._data_of(wildcards))}/tokenizer/manifest.json"

    def tokens_of(self, wildcards: Wildcards) -> str:
        """Manifest of the token files of the data that the wildcards name, or that their run trains on."""
        return f"{self.data_folder(self._data_of(wildcards))}/tokens/manifest.json"

    def _data_of(self, wildcards: Wildcards) -> str:
        return self.runs[wildcards.run].data if hasattr(wildcards, "run") else wildcards.data

    def data_named(self, kind: str, tokenizer: str | None = None) -> str:
        """Pattern of the names of all data of a kind, or of those whose tokenizer is "trained" or "taken"."""
        found = [data for data in self.data.values() if data.kind == kind]
        if tokenizer is not None:
            found = [data for data in found if (data.tokenizer is None) == (tokenizer == "trained")]
        return one_of(data.name for data in found)

    def task_parameters(self, wildcards: Wildcards) -> dict:
        """What the synthetic task is made from."""
        data = self.data[wildcards.data]
        return data.model_dump(exclude={"name", "kind"}) | {"validation_tokens": data.validation_tokens}

    # trainings

    def training_parameters(self, wildcards: Wildcards) -> dict:
        """What one training uses: its run without the other seeds, and without options of another variant."""
        run = self.runs[wildcards.run]
        return run.model_dump(exclude={"seeds", "data", *OPTION_KEYS.values()}) | {"options": run.options}

    def swept_parameters(self, wildcards: Wildcards) -> dict:
        """What one training of the learning-rate sweep uses; its models are not kept."""
        rates = self.config.pretraining.learning_rates.rates
        [rate] = [rate for rate in rates if f"{rate:g}" == wildcards.learning_rate]
        return self.training_parameters(wildcards) | {"learning_rate": rate, "keep": []}

    def swept_histories(self) -> list[str]:
        """Histories of every training of the sweep."""
        sweep = self.config.pretraining.learning_rates
        return [
            f"{self.folder}/learning_rates/{run}/learning_rate={rate:g}/seed={seed}/history.parquet"
            for run in self.runs
            for rate in sweep.rates
            for seed in sweep.seeds
        ]

    def histories(self) -> list[str]:
        """Histories of every training."""
        return [
            f"{self.folder}/pretraining/{run.name}/seed={seed}/history.parquet" for run, seed in self.trained.values()
        ]

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

    def prompts_of_figures(self) -> str | None:
        """The prompt set on which figures show trained models: the first of held-out text, else the first."""
        names = self.config.pretraining.prompts
        texts = [name for name in names if self.prompts[name].kind == "natural_text"]
        return next(iter([*texts, *names]), None)


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


def directory_of(manifest: Callable[[Wildcards], str]) -> Callable[[Wildcards], str]:
    """Input function: the directory of a manifest that another input function names, see :func:`with_directory`."""
    return lambda wildcards: str(Path(manifest(wildcards)).parent)


def one_of(names: Iterable[str]) -> str:
    """Pattern of a wildcard that is one of these names."""
    return "|".join(map(re.escape, names)) or "(?!)"


def all_wildcards(wildcards: Wildcards) -> dict[str, str]:
    """A job's wildcards, as a parameter: Snakemake's cache between workflows leaves them out of its key."""
    return dict(wildcards.items())


def _local(source: str, files: Callable[[str], Iterable[str]]) -> list[str]:
    """The files of a ``path:`` source, marked as files of this machine."""
    kind, _, place = source.partition(":")
    return [local(path) for path in files(place)] if kind == "path" else []
