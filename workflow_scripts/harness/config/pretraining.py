"""The section ``pretraining``: data, runs and the sweep of their learning rates."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from harness.config.corpus import Corpus
from harness.config.values import Name, Strict, listed, not_rising, refuse, repeated
from harness.config.variants import OPTION_KEYS, OPTIONS, VARIANTS, VariantOptions


class TextData(Strict):
    """Text to train on."""

    name: Name = Field(description="How paths and runs call the data.")
    kind: Literal["text"] = Field(description="A corpus, tokenized.")
    corpus: Corpus | None = Field(None, description="A separate corpus; null takes the study's.")
    vocabulary: int = Field(2048, ge=260, description="Size of the byte-pair vocabulary trained on the training split.")
    tokenizer: str | None = Field(
        None,
        pattern=r"^(hub:[^\s/@]+/[^\s/@]+@[^\s]+|path:.+)$",
        description="Take a tokenizer instead of training one: hub:owner/repository@commit, or path: of a directory.",
    )

    @model_validator(mode="after")
    def _one_tokenizer(self):
        if self.tokenizer is not None and "vocabulary" in self.model_fields_set:
            raise ValueError(
                "vocabulary is of a tokenizer that is trained, but tokenizer takes one; delete one of them"
            )
        return self


class BigramBackcopyData(Strict):
    """The synthetic task of Guo et al. 2024: a Markov chain of characters in which some characters trigger a copy."""

    name: Name = Field(description="How paths and runs call the data.")
    kind: Literal["bigram_backcopy"] = Field(
        description="Characters follow the bigrams of the study's corpus; what follows a trigger repeats what stood before it."
    )
    vocabulary: int = Field(
        64, ge=4, description="Number of tokens: the most frequent characters, and the end-of-text token."
    )
    triggers: int = Field(3, ge=1, description="So many of the most frequent characters are triggers.")
    tokens: int = Field(2_000_000, ge=10_000, description="Training tokens; a tenth as many are made for validation.")
    seed: int = Field(0, ge=0, description="Seed of the stream.")

    @model_validator(mode="after")
    def _has_others(self):
        if self.triggers > self.vocabulary - 3:  # the end-of-text token and two characters to tell apart
            raise ValueError(
                f"triggers {self.triggers} leave fewer than 2 other characters of vocabulary {self.vocabulary}; "
                f"lower triggers to {self.vocabulary - 3} or less"
            )
        return self

    @property
    def validation_tokens(self) -> int:
        """Tokens of the validation split."""
        return self.tokens // 10


Data = Annotated[TextData | BigramBackcopyData, Field(discriminator="kind")]


class Initialisation(Strict):
    """Standard deviations of the normal start of the weights; norms start at 1."""

    std: float = Field(0.02, gt=0, description="Standard deviation of the matrices.")
    embedding_std: float = Field(
        0.02, gt=0, description="That of the embedding, and of the language-model head where it is tied to it."
    )
    scale_residual: bool = Field(
        False, description="Whether W_O and the FFN's down-projection start at std / sqrt(2 layers), as GPT-2's."
    )


_COMPARED = (
    "data",
    "first_token",
    "layers",
    "width",
    "heads",
    "kv_heads",
    "ffn_width",
    "tied_embeddings",
    "length",
    "batch",
    "steps",
    "optimizer",
)


Rates = Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]


def _grid_problems(key: str, values: list[float]) -> Iterator[str]:
    """A sentence for values that do not rise, or that folders of trainings cannot tell apart."""
    yield from not_rising(key, values)
    yield from repeated(key, (f"{value:g}" for value in values), " to six digits; keep one")


class Trial(NamedTuple):
    """What one training of the sweep tries.

    Attributes:
        learning_rate: the peak learning rate.
        option: an option of the variant that is tuned too, or None.
        value: its value.
    """

    learning_rate: float
    option: str | None = None
    value: float | None = None

    @property
    def name(self) -> str:
        """What the trial's folder is called: the rate, and the option where there is one."""
        return f"{self.learning_rate:g}" + ("" if self.option is None else f",{self.option}={self.value:g}")


class Tuning(Strict):
    """What the sweep tries for one run, in place of the rates that it tries for the others: as many trainings."""

    rates: Rates = Field(description="Peak learning rates, rising.")
    option: str | None = Field(
        None, description="An option of the run's variant, a number, of which each value is tried with each rate."
    )
    values: Rates | None = Field(None, description="The values of the option, rising.")

    @model_validator(mode="after")
    def _distinct(self):
        refuse([*_grid_problems("rates", self.rates), *_grid_problems("values", self.values or [])])
        if (self.option is None) != (self.values is None):
            raise ValueError("option and values go together; write both, or neither")
        return self

    @property
    def trials(self) -> list[Trial]:
        """Every training with one seed."""
        if self.option is None:
            return [Trial(rate) for rate in self.rates]
        return [Trial(rate, self.option, value) for value in self.values or () for rate in self.rates]


class Run(VariantOptions):
    """A pretraining run: one variant and its hyperparameters, trained once for each seed."""

    name: Name = Field(description="How paths, tables and figures call the run.")
    data: str = Field(description="What it trains on: a name of pretraining.data.")
    variant: str = Field(
        description="The attention, such as softmax; docs/variants.md says which variants there are, and how to add one."
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1, description="One training for each seed.")
    layers: int = Field(ge=1, description="Decoder layers.")
    width: int = Field(ge=8, description="Width of the residual stream.")
    heads: int = Field(ge=1, description="Query heads.")
    kv_heads: int = Field(ge=1, description="Key/value heads.")
    ffn_width: int = Field(ge=8, description="Width of the FFN.")
    tied_embeddings: bool = Field(True, description="Whether the language-model head is the embedding.")
    length: int = Field(ge=4, description="Tokens in a training sequence.")
    first_token: bool = Field(
        False,
        description="Begin every training and validation sequence, and every prompt of text that the trained model reads, "
        "with the end-of-text token. Position 0 then has no variance there.",
    )
    batch: int = Field(ge=1, description="Sequences in a step.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    warmup: int = Field(ge=0, description="Steps of linear warm-up.")
    learning_rate: float = Field(gt=0, description="Peak learning rate; it decays to a tenth along a cosine.")
    tuning: Tuning | None = Field(
        None, description="What the sweep of learning rates tries for this run; null: learning_rates.rates."
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon: torch.optim.Muon for the matrices of the layers, AdamW for embedding, head, norms and all that is no "
        "matrix.",
    )
    muon_learning_rate: float | None = Field(
        None,
        gt=0,
        description="Peak learning rate of Muon's matrices; null: learning_rate, as its steps have the size of AdamW's.",
    )
    weight_decay: float = Field(0.1, ge=0, description="Decay of the matrices.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    evaluate_every: int = Field(ge=1, description="Steps between two rows of the history.")
    checkpoint_every: int = Field(ge=1, description="Steps between two resumable states.")
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="Precision of the matrix products; weights stay float32. auto: bfloat16 where the processor has "
        "instructions for it (avx512_bf16, amx_bf16, a GPU from compute capability 8).",
    )
    accumulate: int = Field(
        1, ge=1, description="Micro-batches that a step's batch is split into; it saves memory and changes no result."
    )
    compile: bool | Literal["auto"] = Field(
        "auto",
        description="torch.compile. auto: where there is a compiler and the run is long enough to pay for it, see "
        "docs/pretraining.md.",
    )
    keep: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        description="Steps whose model is kept, in rising order, for the analysis over training; 0 is the initialisation.",
    )
    initialisation: Initialisation = Field(Initialisation(), description="The start of the weights.")

    @property
    def options(self) -> dict[str, Any]:
        """Options of the run's variant, with their defaults."""
        key = VARIANTS[self.variant].key
        return (getattr(self, key) or OPTIONS[key]()).model_dump() if key in OPTIONS else {}

    @property
    def compared(self) -> tuple:
        """What two runs must have in common to be compared: the learning rate and the variant's options need not be."""
        return tuple(getattr(self, name) for name in _COMPARED)

    @model_validator(mode="after")
    def _consistent(self):
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        """A sentence for an unknown variant, options of another one, and numbers that do not go together."""
        if self.variant not in VARIANTS:
            yield f"variant {self.variant} is unknown; choose one of {', '.join(VARIANTS)}"
        for variant, key in OPTION_KEYS.items():
            if variant != self.variant and getattr(self, key) is not None:
                yield f"{key} is for variant {variant}, but this run's is {self.variant}; delete {key}"
        if self.muon_learning_rate is not None and self.optimizer != "muon":
            yield f"muon_learning_rate is for optimizer muon, but this run's is {self.optimizer}; delete it, or set optimizer: muon"
        yield from self._tuning_problems()
        if self.width % self.heads or (self.width // self.heads) % 2:
            yield f"width {self.width} must be an even multiple of heads {self.heads}; change one of them"
        if self.heads % self.kv_heads:
            yield f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}; change one of them"
        if self.warmup >= self.steps:
            yield f"warmup {self.warmup} must be below steps {self.steps}; lower it"
        if self.batch % self.accumulate:
            yield f"batch {self.batch} must be a multiple of accumulate {self.accumulate}; change one of them"
        yield from repeated("seeds", self.seeds)
        yield from not_rising("keep", self.keep)
        if self.keep and self.keep[-1] > self.steps:
            yield f"keep has step {self.keep[-1]}, beyond the {self.steps} steps; lower it"

    def _tuning_problems(self) -> Iterator[str]:
        """A sentence for a tuned option that the variant does not have, or that is no number."""
        if self.tuning is None or self.tuning.option is None or self.variant not in VARIANTS:
            return
        option = VARIANTS[self.variant].options.get(self.tuning.option)
        if option is None or option.type is not float:
            numbers = [name for name, one in VARIANTS[self.variant].options.items() if one.type is float]
            yield (
                f"tuning.option: {self.tuning.option} is no number among the options of variant {self.variant}; choose one of "
                f"{listed(numbers)}, or leave tuning out"
            )
        elif option.above is not None and min(self.tuning.values or [1]) <= option.above:
            yield f"tuning.values: {self.tuning.option} must be above {option.above:g}; raise {min(self.tuning.values or []):g}"


class LearningRates(Strict):
    """The sweep by which each run finds its learning rate: ``snakemake learning_rates``, no part of the study itself."""

    rates: Rates = Field(
        [0.001, 0.002, 0.004, 0.008],
        description="Peak learning rates, rising; a run is trained with each of them, unless it has a tuning of its own.",
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [100],
        min_length=1,
        description="One training for each seed; none of them is a seed of a run, where the best competes.",
    )

    @model_validator(mode="after")
    def _distinct(self):
        refuse([*_grid_problems("rates", self.rates), *repeated("seeds", self.seeds)])
        return self


class Pretraining(Strict):
    """The pretraining comparison."""

    data: list[Data] = Field([], description="What runs train on.")
    prompts: list[str] = Field(
        [],
        description="Prompt sets on which the trained models are studied, by name; none: those whose first token is drawn.",
    )
    further_prompts: list[str] | None = Field(
        None,
        description="Prompt sets on which the final models of all seeds are measured besides, without being studied there; null: "
        "those that begin with BOS and differ from one of prompts in nothing else.",
    )
    studied_seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="Seeds whose final models go through extraction and all statistics as downloaded models do; null: all. The "
        "statistics over training and the comparison of the runs cover every seed anyway.",
    )
    runs: list[Run] = Field([], description="The runs; an empty list leaves pretraining out.")
    learning_rates: LearningRates = Field(LearningRates(), description="The sweep of `snakemake learning_rates`.")
    threads: int = Field(
        1,
        ge=1,
        description="CPU threads of one training. Trainings run side by side as far as there are cores; the last bits of a "
        "result depend on this number, not on --cores.",
    )
    gpus: int = Field(
        1, ge=1, description="GPUs of one training, which split every batch; on a CPU it makes no difference."
    )

    @property
    def measured_prompts(self) -> list[str]:
        """Prompt sets on which the final model of every training is measured."""
        return [*self.prompts, *(self.further_prompts or [])]

    @property
    def baselines(self) -> dict[str, str | None]:
        """Run → the first softmax run of the same data, size and number of tokens, itself for that one; or None."""
        first: dict[tuple, str] = {}
        for run in self.runs:
            if run.variant == "softmax":
                first.setdefault(run.compared, run.name)
        return {run.name: first.get(run.compared) for run in self.runs}

    def trials(self, run: Run) -> list[Trial]:
        """What the sweep tries for a run, with each of its seeds."""
        return (run.tuning or Tuning(rates=self.learning_rates.rates)).trials

    @model_validator(mode="after")
    def _tuned_alike(self):
        refuse(self._tuning_problems())
        return self

    def _tuning_problems(self) -> Iterator[str]:
        """A sentence for a seed that is tuned with and competes, and for runs that are compared but not tuned alike."""
        for seed in self.learning_rates.seeds:
            if competing := [run.name for run in self.runs if seed in run.seeds]:
                yield (
                    f"learning_rates.seeds: seed {seed} is a seed of runs too ({', '.join(competing)}), so learning rates would be chosen on "
                    "trainings that then compete; give the sweep seeds of its own"
                )
        runs, baselines = {run.name: run for run in self.runs}, self.baselines
        for name, baseline in baselines.items():
            found, wanted = (len(self.trials(runs[one])) for one in (name, baseline or name))
            if found != wanted:
                yield (
                    f"runs.{name}.tuning: the sweep tries {found} settings for it, but {wanted} for {baseline}, with which it is "
                    f"compared; give both the same number, by rates, or by rates times values"
                )

    @model_validator(mode="after")
    def _splits(self):
        refuse(
            f"runs.{run.name}.batch: {run.batch} cannot be split into {run.accumulate} micro-batches on each of "
            f"{self.gpus} GPUs; make it a multiple of {run.accumulate * self.gpus}"
            for run in self.runs
            if run.batch % (run.accumulate * self.gpus)
        )
        return self
