"""A study: all sections, and what one demands of another."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from harness.config.activations import Activations
from harness.config.corpus import Corpus
from harness.config.figures import Figures
from harness.config.interventions import FEWEST_SEQUENCES, Intervention, smallest_batch
from harness.config.mechanism import Mechanism
from harness.config.models import Model
from harness.config.pretraining import BigramBackcopyData, Pretraining, Run, TextData
from harness.config.prompts import Prompts
from harness.config.publish import Publish
from harness.config.statistics import Statistics
from harness.config.values import Name, Strict, first_repeated, listed, refuse, unknown
from sinkorigin.interventions.kind import BASELINE, kind_named


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
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes a GPU where one is visible.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision in which studied models run; statistics are float64 anyway."
    )
    machine: Machine = Field(Machine(), description="The machine that estimates are made for; no result depends on it.")
    models: list[Model] = Field(description="The models to study; none for a study of pretraining alone.")
    corpus: Corpus = Field(description="The text corpus.")
    prompts: list[Prompts] = Field(min_length=1, description="The prompt sets.")
    activations: Activations = Field(description="What is extracted.")
    statistics: Statistics = Field(Statistics(), description="Settings of the statistics.")
    interventions: list[Intervention] = Field([], description="The causal interventions.")
    mechanism: Mechanism = Field(
        Mechanism(), description="Which edits are followed through the chain; without causes, none."
    )
    pretraining: Pretraining = Field(
        Pretraining(), description="The pretraining comparison; without it, nothing is trained."
    )
    figures: Figures = Field(Figures(), description="How figures are drawn.")
    publish: Publish = Field(
        Publish(), description="Who publishes the study, and what is taken in; no result depends on it."
    )

    @model_validator(mode="after")
    def _complete(self):
        """Add the random-weight controls, and fill in what null stands for, so that nobody else has to."""
        controlled, names = {model.source_text for model in self.models}, {model.name for model in self.models}
        models: list[Model] = []
        for model in self.models:
            models.append(model)
            control = model.control_entry
            wanted = model.kind != "random" and model.control and control.source_text not in controlled
            if wanted and control.name not in names:  # a name that is taken is refused below
                models.append(control)
        first = [prompts.name for prompts in self.prompts[:1]]
        edits = []
        for edit in self.interventions:
            edited = edit.models or [m.name for m in models if edit.controls or m.kind != "random"]
            if edited:  # a study of pretraining alone may have none
                edits.append(edit.model_copy(update={"models": edited, "prompts": edit.prompts or first}))
        drawn = [prompts.name for prompts in self.prompts if prompts.first_token == "drawn"]
        read = self.pretraining.prompts or drawn
        further = self.pretraining.further_prompts
        filled = {"prompts": read, "further_prompts": self._with_bos(read) if further is None else further}
        pretraining = self.pretraining.model_copy(update=filled)
        gone = {edit.name for edit in self.interventions} - {edit.name for edit in edits}
        causes = [name for name in self.mechanism.causes if name not in gone]
        mechanism = self.mechanism.model_copy(update={"causes": causes})
        completed = {"models": models, "interventions": edits, "mechanism": mechanism, "pretraining": pretraining}
        return self.model_copy(update=completed)

    def _with_bos(self, names: list[str]) -> list[str]:
        """Prompt sets that begin with BOS and differ from one of these in nothing else."""
        shapes = [(p.kind, p.sequences, p.length, p.seed) for p in self.prompts if p.name in names]
        return [
            p.name
            for p in self.prompts
            if p.first_token == "bos" and p.name not in names and (p.kind, p.sequences, p.length, p.seed) in shapes
        ]

    @model_validator(mode="after")
    def _cross_checks(self):
        """Check what one section demands of another."""
        refuse(
            [
                *self._name_problems(),
                *self._model_problems(),
                *self._pretraining_problems(),
                *self._site_problems(),
                *(problem for edit in self.interventions for problem in self._edit_problems(edit)),
                *self._mechanism_problems(),
            ]
        )
        return self

    def _name_problems(self) -> Iterator[str]:
        if self.study in ("results", "models", "logs", "benchmarks"):
            yield f"study: the name {self.study} is taken by a folder of all studies; choose another"
        for key, names in (
            ("models", [m.name for m in self.models] + list(self.trained)),
            ("prompts", [p.name for p in self.prompts]),
            ("interventions", [i.name for i in self.interventions]),
            ("pretraining.data", [d.name for d in self.pretraining.data]),
            ("pretraining.runs", [r.name for r in self.pretraining.runs]),
        ):
            if twice := first_repeated(names):
                sources = [model.source_text for model in self.models if key == "models" and model.name == twice]
                of = f" (to {' and '.join(sources)})" if len(sources) > 1 else ""
                yield f"{key}: the name {twice} is given twice{of}; rename one"
            for name, owner in ((BASELINE, "the unedited model"), ("results", "the folder of all results")):
                if name in names:
                    yield f"{key}: the name {name} is taken by {owner}; choose another"
        if twice := first_repeated(model.label for model in self.models if model.label):
            yield f"models: the label {twice!r} is given twice, so that nobody could tell the two apart; change one"

    def _model_problems(self) -> Iterator[str]:
        if not self.models and not self.pretraining.runs:
            yield "models is empty, and pretraining has no runs; name a model, or a run"
        models = {m.name: m for m in self.models}
        fetched = [name for name, model in models.items() if model.kind != "random"]
        sets = [prompts.name for prompts in self.prompts]
        for model in self.models:
            base = model.place
            if model.kind != "random" or base not in models or model.prompts != models[base].prompts:
                yield from unknown(f"models.{model.name}.prompts", model.prompts or [], "prompt set", sets)
            if model.kind == "random" and base in models:
                beyond = [name for name in sets if model.reads(name) and not models[base].reads(name)]
                if beyond:
                    yield (
                        f"models.{model.name}.prompts: it reads {listed(beyond)}, which {base} does not, whose layers its edits take; "
                        f"leave them out, or add them to {base}"
                    )
            if model.kind == "random" and base not in fetched:
                yield (
                    f"models.{model.name}.source: random:{base} names no fetched model of this study; known ones are "
                    f"{listed(fetched)}"
                )
            control = model.control_entry
            if (
                model.kind == "random"
                or not model.control
                or any(m.source_text == control.source_text for m in self.models)
            ):
                continue
            yield (
                f"models.{model.name}: its random-weight control would be called {control.name}, as another model is; rename "
                "that one, or set control: false"
            )

    def _pretraining_problems(self) -> Iterator[str]:
        """What runs demand of prompt sets and data, as far as it is known before anything is made."""
        prompts, data = {p.name: p for p in self.prompts}, {d.name: d for d in self.pretraining.data}
        yield from unknown("pretraining.prompts", self.pretraining.prompts, "prompt set", prompts)
        further = self.pretraining.further_prompts or []
        yield from unknown("pretraining.further_prompts", further, "prompt set", prompts)
        if twice := first_repeated([*self.pretraining.prompts, *further]):
            yield f"pretraining.further_prompts: {twice} is given twice, or is one of pretraining.prompts; keep one"
        if self.pretraining.runs and not self.pretraining.prompts:
            yield "pretraining.prompts is missing, and the first token of no prompt set is drawn; add it"
        studied = self.pretraining.studied_seeds
        for run in self.pretraining.runs:
            key = f"pretraining.runs.{run.name}"
            yield from unknown(f"{key}.data", [run.data], "data of this study", data)
            if studied is not None and not set(studied) & set(run.seeds):
                yield (
                    f"pretraining.studied_seeds: run {run.name} has none of the seeds {', '.join(map(str, studied))}; add one "
                    f"of its own ({', '.join(map(str, run.seeds))})"
                )
            task = data.get(run.data)
            if not isinstance(task, BigramBackcopyData):
                continue
            if task.tokens <= run.batch * run.length:
                yield (
                    f"{key}: a batch of {run.batch} × {run.length} tokens is no smaller than the {task.tokens} of data "
                    f"{task.name}; lower batch or length, or raise tokens"
                )
            if task.validation_tokens <= run.length:
                yield (
                    f"{key}.length: {run.length} tokens are no fewer than the {task.validation_tokens} of data {task.name}'s "
                    "validation split; lower length, or raise tokens"
                )

    def _site_problems(self) -> Iterator[str]:
        shortest = min(self.prompts, key=lambda p: p.length)
        for kept in self.activations.sites:
            for position in kept.positions or []:
                if position >= shortest.length:
                    yield (
                        f"activations.sites.{kept.site}.positions: position {position} is beyond the {shortest.length} "
                        f"tokens of prompt set {shortest.name}; choose one below {shortest.length}"
                    )

    def _edit_problems(self, edit: Intervention) -> Iterator[str]:
        """What an intervention demands of models and prompt sets."""
        key = f"interventions.{edit.name}"
        prompts, trained = {p.name: p for p in self.prompts}, self.trained
        yield from unknown(
            f"{key}.models", edit.models, "model of this study", [*(m.name for m in self.models), *self.studied]
        )
        yield from unknown(f"{key}.prompts", edit.prompts, "prompt set", prompts)
        for run, _ in (trained[name] for name in edit.models if name in trained):
            if isinstance(edit.layers, list) and max(edit.layers) >= run.layers:
                yield (
                    f"{key}.layers: layer {max(edit.layers)} is beyond the {run.layers} layers of run {run.name}; choose "
                    f"layers below {run.layers}"
                )
        for name in edit.prompts:
            if name not in prompts:
                continue
            for model in edit.models:
                if model in trained and name not in self.pretraining.prompts:
                    yield f"{key}.prompts: {model} is not studied on {name}; add the set to pretraining.prompts"
            yield from self._size_problems(edit, prompts[name])
        longest = max(
            (prompts[name] for name in edit.prompts if name in prompts), key=lambda one: one.length, default=None
        )
        if longest is not None and edit.targets[-1] >= longest.length - 1:
            yield (
                f"{key}.positions: {edit.targets[-1]} needs a later query, but prompt set {longest.name} has "
                f"{longest.length} tokens; choose positions below {longest.length - 1}"
            )

    def _size_problems(self, edit: Intervention, prompts: Prompts) -> Iterator[str]:
        """What an intervention demands of the size of a prompt set."""
        key = f"interventions.{edit.name}"
        run = prompts.sequences - edit.calibration if edit.sequences is None else edit.sequences
        if run < FEWEST_SEQUENCES or run + edit.calibration > prompts.sequences:
            yield (
                f"{key}: {max(run, FEWEST_SEQUENCES)} sequences to run and {edit.calibration} set apart are more than the "
                f"{prompts.sequences} of prompt set {prompts.name}; lower sequences or calibration"
            )
            return
        other = next(e for e in self.interventions if any(e.runs_on(model, prompts.name) for model in edit.models))
        first = prompts.sequences - other.calibration if other.sequences is None else other.sequences
        if run != first:
            yield (
                f"{key}: it runs {run} sequences of prompt set {prompts.name}, but {other.name} runs {first}, and the two are "
                "compared sequence by sequence; give both the same number by sequences"
            )
        least = smallest_batch(run, self.activations.batch)
        if edit.mixed > least:
            yield (
                f"{key}: {edit.kind} mixes {edit.mixed} sequences of a batch, but batches have {least}; raise activations.batch "
                "or sequences, or lower the strength"
            )

    def _mechanism_problems(self) -> Iterator[str]:
        """What the followed edits demand of interventions and prompt sets."""
        mechanism, edits = self.mechanism, {edit.name: edit for edit in self.interventions}
        prompts = {one.name: one for one in self.prompts}
        yield from unknown("mechanism.causes", mechanism.causes, "intervention of this study", edits)
        yield from unknown("mechanism.prompts", mechanism.prompts or [], "prompt set", prompts)
        for name in mechanism.causes:
            edit = edits.get(name)
            if edit is not None and kind_named(edit.kind).role != "treatment":
                yield f"mechanism.causes: {name} is a {kind_named(edit.kind).role}, and causes are edits that make a sink; leave it out"
            if edit is not None and mechanism.position not in edit.positions:
                yield (
                    f"mechanism.position: {name} does not edit position {mechanism.position} by itself; choose one of its positions, "
                    f"{', '.join(str(k) for k in edit.positions if isinstance(k, int)) or 'of which it has none'}, or add it there"
                )
            for read in (edit.prompts or []) if edit is not None else []:
                if read not in prompts or read not in (mechanism.prompts or []):
                    continue
                if mechanism.position >= prompts[read].length - 1:
                    yield (
                        f"mechanism.position: {mechanism.position} needs a later query, but prompt set {read} has "
                        f"{prompts[read].length} tokens; choose a position below {prompts[read].length - 1}"
                    )
                if mechanism.sequences > prompts[read].sequences:
                    yield (
                        f"mechanism.sequences: {mechanism.sequences} are more than the {prompts[read].sequences} of prompt set {read}; "
                        "lower them"
                    )

    def follows(self, edit: Intervention, prompts: str) -> bool:
        """Whether the effect of an intervention is followed through the chain on a prompt set that it edits.

        Where the config names no prompt sets, they are those that are long and many enough.
        """
        mechanism, read = self.mechanism, next(one for one in self.prompts if one.name == prompts)
        fits = mechanism.position < read.length - 1 and mechanism.sequences <= read.sequences
        return edit.name in mechanism.causes and (fits if mechanism.prompts is None else prompts in mechanism.prompts)

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
