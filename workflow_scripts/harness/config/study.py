"""A study: all sections, and what one demands of another."""

from typing import Literal

from pydantic import Field, model_validator

from harness.config.activations import Activations
from harness.config.corpus import Corpus
from harness.config.figures import Figures
from harness.config.interventions import FEWEST_SEQUENCES, Intervention
from harness.config.models import Model
from harness.config.pretraining import BigramBackcopyData, Pretraining, Run, TextData
from harness.config.prompts import Prompts
from harness.config.statistics import Statistics
from harness.config.values import Name, Strict, check_known, first_repeated, listed
from sinkorigin.interventions.kind import BASELINE


class Machine(Strict):
    """The machine that jobs run on, for estimates: how long they take, and how many GPUs a model is spread over."""

    gpu_memory: float = Field(
        80, gt=0, description="Memory of one GPU, GB; a model that needs more is spread over several."
    )
    gpu_tflops: float = Field(
        360,
        gt=0,
        description="TFLOP/s that a training reaches on one GPU. 360: 152 M parameters, compiled, on an H200.",
    )
    core_gflops: float = Field(25, gt=0, description="GFLOP/s that one CPU core reaches in float32.")


class Config(Strict):
    """A study."""

    study: Name = Field("default", description="Name of the study; its results lie in results/{study}/.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU where one is visible.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision in which studied models run; statistics are float64 anyway."
    )
    machine: Machine = Field(Machine(), description="The machine that estimates are made for; no result depends on it.")
    models: list[Model] = Field(min_length=1, description="The models to study.")
    corpus: Corpus = Field(description="The text corpus.")
    prompts: list[Prompts] = Field(min_length=1, description="The prompt sets.")
    activations: Activations = Field(description="What is extracted.")
    statistics: Statistics = Field(Statistics(), description="Settings of the statistics.")
    interventions: list[Intervention] = Field([], description="The causal interventions.")
    pretraining: Pretraining = Field(description="The pretraining comparison.")
    figures: Figures = Field(Figures(), description="How figures are drawn.")

    @model_validator(mode="after")
    def _cross_checks(self):
        if self.study in ("results", "models", "logs", "benchmarks"):
            raise ValueError(f"study: the name {self.study} is taken by a folder of all studies; choose another")
        trained = self.trained
        for key, names in (
            ("models", [m.name for m in self.models] + list(trained)),
            ("prompts", [p.name for p in self.prompts]),
            ("interventions", [i.name for i in self.interventions]),
            ("pretraining.data", [d.name for d in self.pretraining.data]),
            ("pretraining.runs", [r.name for r in self.pretraining.runs]),
        ):
            if twice := first_repeated(names):
                raise ValueError(f"{key}: the name {twice} is given twice; rename one")
            for name, owner in ((BASELINE, "the unedited model"), ("results", "the folder of all results")):
                if name in names:
                    raise ValueError(f"{key}: the name {name} is taken by {owner}; choose another")
        models = {m.name: m for m in self.models}
        for model in self.models:
            other = model.place
            if model.kind == "random" and (other not in models or models[other].kind == "random"):
                raise ValueError(
                    f"models.{model.name}.source: random:{other} names no fetched model of this study; "
                    f"known ones are {listed(n for n, m in models.items() if m.kind != 'random')}"
                )
        prompts = {p.name: p for p in self.prompts}
        for name in self.pretraining.prompts:
            check_known("pretraining.prompts", name, "prompt set", prompts)
        for run in self.pretraining.runs:
            self._check_data(run)
        shortest = min(self.prompts, key=lambda p: p.length)
        for kept in self.activations.sites:
            for position in kept.positions or []:
                if position >= shortest.length:
                    raise ValueError(
                        f"activations.sites.{kept.site}.positions: position {position} is beyond the {shortest.length} "
                        f"tokens of prompt set {shortest.name}; choose one below {shortest.length}"
                    )
        for edit in self.interventions:
            key = f"interventions.{edit.name}"
            for name in edit.models:
                check_known(f"{key}.models", name, "model of this study", [*models, *self.studied])
                run = trained.get(name)
                if run is not None and edit.layers and max(edit.layers) >= run[0].layers:
                    raise ValueError(
                        f"{key}.layers: layer {max(edit.layers)} is beyond the {run[0].layers} "
                        f"layers of run {run[0].name}; choose layers below {run[0].layers}"
                    )
            for name in edit.prompts:
                check_known(f"{key}.prompts", name, "prompt set", prompts)
                for model in edit.models:
                    if model in trained and name not in self.pretraining.prompts:
                        raise ValueError(
                            f"{key}.prompts: {model} is not studied on {name}; add the set to pretraining.prompts"
                        )
                self._check_size(edit, prompts[name])
        return self

    def _check_data(self, run: Run) -> None:
        """Check what a run demands of its data, as far as it is known before anything is made."""
        data = {d.name: d for d in self.pretraining.data}
        key = f"pretraining.runs.{run.name}"
        check_known(f"{key}.data", run.data, "data of this study", data)
        studied = self.pretraining.studied_seeds
        if studied is not None and not set(studied) & set(run.seeds):
            raise ValueError(
                f"pretraining.studied_seeds: run {run.name} has none of the seeds {', '.join(map(str, studied))}; add one of "
                f"its own ({', '.join(map(str, run.seeds))})"
            )
        task = data[run.data]
        if not isinstance(task, BigramBackcopyData):
            return
        if task.tokens <= run.batch * run.length:
            raise ValueError(
                f"{key}: a batch of {run.batch} × {run.length} tokens is no smaller than the {task.tokens} of data "
                f"{task.name}; lower batch or length, or raise tokens"
            )
        if task.validation_tokens <= run.length:
            raise ValueError(
                f"{key}.length: {run.length} tokens are no fewer than the {task.validation_tokens} of data {task.name}'s "
                "validation split; lower length, or raise tokens"
            )

    def _check_size(self, edit: Intervention, prompts: Prompts) -> None:
        """Check what an intervention demands of a prompt set."""
        key = f"interventions.{edit.name}"
        if edit.targets[-1] >= prompts.length - 1:
            raise ValueError(
                f"{key}.positions: {edit.targets[-1]} needs a later query, but prompt set {prompts.name} has "
                f"{prompts.length} tokens; choose positions below {prompts.length - 1}"
            )
        run = prompts.sequences - edit.calibration if edit.sequences is None else edit.sequences
        if run < FEWEST_SEQUENCES or run + edit.calibration > prompts.sequences:
            raise ValueError(
                f"{key}: {max(run, FEWEST_SEQUENCES)} sequences to run and {edit.calibration} set apart are more than the "
                f"{prompts.sequences} of prompt set {prompts.name}; lower sequences or calibration"
            )
        other = next(e for e in self.interventions if prompts.name in e.prompts and set(e.models) & set(edit.models))
        first = prompts.sequences - other.calibration if other.sequences is None else other.sequences
        if run != first:
            raise ValueError(
                f"{key}: it runs {run} sequences of prompt set {prompts.name}, but {other.name} runs {first}, and the two are "
                "compared sequence by sequence; give both the same number by sequences"
            )
        if prompts.kind == "natural_text" and 0 in edit.targets and edit.compares_sequences:
            trained = self.trained
            for name in edit.models:
                if trained[name][0].first_token if name in trained else prompts.bos:
                    token = f"the first token of run {trained[name][0].name}" if name in trained else "BOS"
                    raise ValueError(
                        f"{key}.positions: every sequence of {prompts.name} begins with {token}, so {edit.kind} changes "
                        "nothing at position 0; choose prompts without it"
                    )
        least = run // -(-run // self.activations.batch)  # batches are of equal size, give or take one
        if edit.mixed > least:
            raise ValueError(
                f"{key}: {edit.kind} mixes {edit.mixed} sequences of a batch, but batches have {least}; raise activations.batch "
                "or sequences, or lower the strength"
            )

    @property
    def corpora(self) -> dict[str, Corpus]:
        """Key of every corpus → the corpus: the study's, and those of single data."""
        separate = {
            data.name: data.corpus for data in self.pretraining.data if isinstance(data, TextData) and data.corpus
        }
        return {"corpus": self.corpus, **{f"pretraining.data.{name}.corpus": found for name, found in separate.items()}}

    @property
    def trained(self) -> dict[str, tuple[Run, int]]:
        """Name of every trained checkpoint → its run and seed."""
        return {f"{run.name}-seed{seed}": (run, seed) for run in self.pretraining.runs for seed in run.seeds}

    @property
    def studied(self) -> dict[str, tuple[Run, int]]:
        """Name of every trained checkpoint that goes through extraction and all statistics → its run and seed."""
        seeds = self.pretraining.studied_seeds
        return {name: (run, seed) for name, (run, seed) in self.trained.items() if seeds is None or seed in seeds}
