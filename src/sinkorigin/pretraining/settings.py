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
    """Everything that decides a run's result, except its seed and its data.

    Attributes:
        name: of the run.
        variant: attention variant, a module of ``variants``.
        layers, width, heads, kv_heads, ffn_width, tied_embeddings: size of the model.
        length: tokens in a training sequence.
        first_token: whether every training and validation sequence begins with the end-of-text token.
        batch: sequences in a step, over all micro-batches and processes.
        steps: optimizer steps.
        warmup: steps over which the learning rate rises linearly to its peak.
        learning_rate: the peak; it falls along a cosine to a tenth of it.
        weight_decay: on the weight matrices and the embedding only.
        clip: largest gradient norm.
        evaluate_every: steps between rows of the history; the last step always gives one.
        checkpoint_every: steps between saved states.
        validation_tokens: tokens of the validation split that each row's loss is taken on, at most.
        dtype: "float32", "bfloat16" for autocast, or "auto" (``acceleration.resolve_dtype``).
        accumulate: micro-batches that a step's batch is split into; the gradient is that of the whole batch.
        compile: true, false or "auto" (``acceleration.resolve_compile``).
        keep: steps whose model is kept; 0 is the initialisation.
        options, initialisation: of the variant and of the weights, see ``pretraining.model.build_model``.
    """

    name: str
    variant: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn_width: int
    length: int
    batch: int
    steps: int
    warmup: int
    learning_rate: float
    weight_decay: float
    clip: float
    evaluate_every: int
    checkpoint_every: int
    first_token: bool = False
    tied_embeddings: bool = True
    validation_tokens: int = 32_768
    dtype: str = "float32"
    accumulate: int = 1
    compile: bool | str = "auto"
    keep: Sequence[int] = ()
    options: dict[str, Any] = field(default_factory=dict)
    initialisation: dict[str, Any] = field(default_factory=dict)

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

    Args:
        settings: of the run.
        data: files that change with the data: the manifests of the token and tokenizer directories.
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
