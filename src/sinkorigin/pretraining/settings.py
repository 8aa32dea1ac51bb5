"""Settings of a training run, and what follows from them alone."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_FINAL_LEARNING_RATE = 0.1  # of the peak, as Llama 2's


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides a run's result, except its seed and its data."""

    name: str
    variant: str  # a module of ``variants``
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn_width: int
    length: int  # tokens in a training sequence
    batch: int  # sequences in a step, over all micro-batches and processes
    steps: int  # optimizer steps
    warmup: int  # steps over which the learning rate rises linearly to its peak
    learning_rate: float  # the peak; it falls along a cosine to a tenth of it
    weight_decay: float  # on the weight matrices and the embedding only
    clip: float  # largest gradient norm
    evaluate_every: int  # steps between rows of the history; the last step always gives one
    checkpoint_every: int  # steps between saved states
    optimizer: str = "adamw"  # or "muon" (``pretraining.optimizers``)
    muon_learning_rate: float | None = None  # Muon's peak; None: ``learning_rate``
    first_token: bool = False  # whether every training and validation sequence begins with the end-of-text token
    tied_embeddings: bool = True
    validation_tokens: int = 32_768  # tokens of the validation split that each row's loss is taken on, at most
    dtype: str = "float32"  # or "bfloat16" for autocast, or "auto" (``acceleration.resolve_dtype``)
    accumulate: int = 1  # micro-batches that a step's batch is split into; the gradient is that of the whole batch
    compile: bool | str = "auto"  # or true or false (``acceleration.resolve_compile``)
    keep: Sequence[int] = ()  # steps whose model is kept; 0 is the initialisation
    options: dict[str, Any] = field(default_factory=dict)  # of the variant, see ``pretraining.model.build_model``
    initialisation: dict[str, Any] = field(default_factory=dict)  # of the weights, see there

    @property
    def size(self) -> dict[str, Any]:
        """Size of the model, as ``pretraining.model.build_model`` takes it."""
        names = ("layers", "width", "heads", "kv_heads", "ffn_width", "length", "tied_embeddings")
        return {name: getattr(self, name) for name in names}

    @property
    def step_tokens(self) -> int:
        """Training tokens in one step."""
        return self.batch * self.length


def state_key(settings: TrainingSettings, *data: str | Path) -> str:
    """Twelve hex digits that change with any training parameter and with the content of the ``data`` files.

    These are the manifests of the token and tokenizer directories.
    """
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for path in data:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:12]


def learning_rate_at(step: int, settings: TrainingSettings) -> float:
    """Learning rate of a step (from 0): linear warm-up, then a cosine from the peak to a tenth of it."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, settings.steps - 1 - settings.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return settings.learning_rate * (_FINAL_LEARNING_RATE + (1 - _FINAL_LEARNING_RATE) * cosine)
