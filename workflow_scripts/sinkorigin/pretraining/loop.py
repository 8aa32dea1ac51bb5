"""The training loop: one straight line from token files to a Hugging Face directory, resumable to the bit."""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from sinkorigin.errors import DivergedError, SinkoriginError
from sinkorigin.pretraining.data import batch, load_tokens, tokenizer_sha256, validation_windows
from sinkorigin.pretraining.model import build_model
from sinkorigin.tables import atomic_directory, checked_directory, schema, write_table

# the second moment forgets faster than PyTorch's 0.999: runs of a few thousand steps (as Llama 2's and nanoGPT's)
_BETAS = (0.9, 0.95)
_FINAL_LEARNING_RATE = 0.1  # of the peak, as Llama 2's

HISTORY = schema(
    run=(pa.string(), "name of the run in the config"),
    variant=(pa.string(), "attention variant"),
    seed=(pa.int32(), "seed of the weights and of the order of the data"),
    step=(pa.int32(), "optimizer steps done"),
    tokens=(pa.int64(), "training tokens seen"),
    train_loss=(pa.float64(), "cross-entropy, nats per token, mean over the steps since the previous row"),
    validation_loss=(pa.float64(), "cross-entropy, nats per token, on the fixed validation windows"),
    learning_rate=(pa.float64(), "learning rate of the last step"),
    gradient_norm=(pa.float64(), "gradient norm before clipping, mean over the steps since the previous row"),
)
TIMING = schema(
    step=(pa.int32(), "optimizer steps done"),
    seconds=(pa.float64(), "wall time of the steps since the previous row, without evaluation and checkpoints, s"),
    tokens_per_second=(pa.float64(), "training tokens per second in that time"),
)


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides a run's result, but its seed and its data.

    Args:
        name: of the run.
        variant: attention variant, see ``variants.llama.VARIANTS``.
        layers, width, heads, kv_heads, ffn_width, tied_embeddings: size of the model.
        length: tokens in a training sequence.
        first_token: whether every training and validation sequence begins with the end-of-text token.
        batch: sequences in a step.
        steps: optimizer steps.
        warmup: steps over which the learning rate rises linearly to its peak.
        learning_rate: the peak; it falls along a cosine to a tenth of it.
        weight_decay: on the weight matrices and the embedding only.
        clip: largest gradient norm.
        evaluate_every: steps between rows of the history; the last step always gives one.
        checkpoint_every: steps between saved states.
        validation_tokens: tokens of the validation split that each row's loss is taken on, at most.
        dtype: "float32", or "bfloat16" for autocast.
        keep: steps whose model is kept; 0 is the initialisation.
        options: of the variant, and initialisation: of the weights, both see ``pretraining.model.build_model``.
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
    keep: Sequence[int] = ()
    options: dict[str, Any] = field(default_factory=dict)
    initialisation: dict[str, Any] = field(default_factory=dict)


def state_key(settings: TrainingSettings, *data: str | Path) -> str:
    """Twelve hex digits that change with any training parameter and with the content of the ``data`` files.

    Args:
        settings: of the run.
        data: what stands for the data's content: the manifests of the token and tokenizer directories.
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


def _optimizer(model: torch.nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices only: not the norms, and not a variant's scales and offsets, whatever their shape."""
    named = list(model.named_parameters())
    matrices = [parameter for name, parameter in named if name.endswith("weight") and parameter.dim() > 1]
    others = [parameter for name, parameter in named if not (name.endswith("weight") and parameter.dim() > 1)]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=_BETAS, fused=True)


def _newest(state_directory: Path) -> Path | None:
    return max(state_directory.glob("step=*"), key=lambda path: int(path.name.split("=")[1]), default=None)


def _save_state(state_directory: Path, model: torch.nn.Module, optimizer: torch.optim.AdamW, progress: dict) -> None:
    """Save weights, optimizer moments and progress; at every moment at least one whole state is on the disk."""
    tensors = {}
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        tensors[f"parameter.{name}"] = parameter.detach()
        tensors[f"exp_avg.{name}"] = moments["exp_avg"]
        tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"]
    path = state_directory / f"step={progress['step']}"
    with atomic_directory(path) as directory:
        save_file(tensors, directory / "state.safetensors")
        (directory / "progress.json").write_text(json.dumps(progress))  # Python's floats survive JSON to the bit
    for older in state_directory.glob("step=*"):
        if older != path:
            shutil.rmtree(older)


@torch.no_grad()
def _load_state(path: Path, model: torch.nn.Module, optimizer: torch.optim.AdamW) -> dict:
    """Fill model and optimizer from a saved state; returns its progress."""
    tensors = load_file(checked_directory(path) / "state.safetensors")
    progress = json.loads((path / "progress.json").read_text())
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[f"parameter.{name}"])
        optimizer.state[parameter] = {
            "step": torch.tensor(float(progress["step"]), device=parameter.device),
            "exp_avg": torch.empty_like(parameter).copy_(tensors[f"exp_avg.{name}"]),
            "exp_avg_sq": torch.empty_like(parameter).copy_(tensors[f"exp_avg_sq.{name}"]),
        }
    return progress


def _export(
    destination: Path,
    model: PreTrainedModel,
    tokenizer_directory: Path,
    settings: TrainingSettings,
    seed: int,
    step: int,
) -> None:
    """Write the model as it is after ``step`` as a Hugging Face directory with tokenizer and provenance, atomically."""
    name, label = f"{settings.name}-seed{seed}", f"{settings.name.replace('_', ' ')}, seed {seed}"
    if step < settings.steps:
        name, label = f"{name}-step{step}", f"{label}, step {step}"
    provenance = {
        "model": name,
        "label": label,
        "source": "trained from scratch",
        "revision": None,
        "sha256": None,
        "licence": None,
        "quantisation": None,
        "weights": "trained here",
        "seed": seed,
        "step": step,
        "training": asdict(settings),
    }
    with atomic_directory(destination) as directory:
        model.save_pretrained(directory)
        for file in sorted(tokenizer_directory.glob("*token*.json")):
            shutil.copyfile(file, directory / file.name)
        (directory / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")


def _link(source: str, destination: str) -> None:
    """A second name for a file, or a copy where the file system has no hard links."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


def train(
    settings: TrainingSettings,
    *,
    seed: int,
    tokens_directory: str | Path,
    tokenizer_directory: str | Path,
    run_directory: str | Path,
    state_directory: str | Path,
    threads: int = 1,
    device: str = "cpu",
) -> None:
    """Train one model, and write ``model/``, ``history.parquet`` and ``timing.parquet`` into ``run_directory``.

    With ``settings.keep``, ``checkpoints/step={step}/`` too, each a Hugging Face directory, under one manifest.

    A run that was stopped goes on from the newest state in ``state_directory``, and on a CPU with the same number of
    threads it ends with the same history, weights and kept models to the bit as one that was not. Give each configuration a state
    directory of its own (``state_key``). It is removed at the end.

    Sets PyTorch's number of threads and its deterministic mode for the whole process.

    Raises:
        SinkoriginError: too short a corpus, token files of another tokenizer, no such device, or a loss that is no
            number.
    """
    run_directory, state_directory = Path(run_directory), Path(state_directory)
    tokenizer_directory = checked_directory(tokenizer_directory)
    where = f"run {settings.name}, seed {seed}"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SinkoriginError(
            f"{where}: device is {device} but PyTorch sees no GPU on this node; set device: cpu in the config"
        )
    tokens = load_tokens(tokens_directory)
    if tokens.tokenizer_sha256 != tokenizer_sha256(tokenizer_directory):
        raise SinkoriginError(
            f"{where}: {tokens_directory} was not made with the tokenizer in {tokenizer_directory}; "
            "delete the former and run the same command again"
        )
    if len(tokens.train) <= settings.batch * settings.length:
        raise SinkoriginError(
            f"{where}: the training split has {len(tokens.train)} tokens, not more than one batch of {settings.batch} "
            f"× {settings.length}; set a smaller batch or length in the config or take a larger corpus"
        )

    torch.set_num_threads(threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    # on a GPU one attention kernel (float32, memory-efficient) has no deterministic backward pass: warn, go on
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")

    size_names = ("layers", "width", "heads", "kv_heads", "ffn_width", "length", "tied_embeddings")
    model = build_model(
        {name: getattr(settings, name) for name in size_names},
        vocabulary=tokens.vocabulary,
        variant=settings.variant,
        seed=seed,
        eos=tokens.eos,
        options=settings.options,
        initialisation=settings.initialisation,
    )
    torch.nn.Module.to(model, device)  # transformers wraps `to` in a type that checkers misread
    model.train()
    optimizer = _optimizer(model, settings)
    autocast = torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16")
    windows = {"length": settings.length, "first": tokens.eos if settings.first_token else None}
    validation = validation_windows(
        tokens.validation, count=max(1, settings.validation_tokens // settings.length), **windows
    )

    def loss_of(inputs: np.ndarray, targets: np.ndarray) -> torch.Tensor:
        with autocast:
            logits = model(input_ids=torch.from_numpy(inputs).to(device), use_cache=False).logits  # (N, T, vocabulary)
        return F.cross_entropy(logits.float().flatten(0, 1), torch.from_numpy(targets).to(device).flatten())

    @torch.no_grad()
    def validation_loss() -> float:
        inputs, targets = validation
        total = 0.0
        for start in range(0, len(inputs), settings.batch):
            part = slice(start, start + settings.batch)
            total += loss_of(inputs[part], targets[part]).item() * len(inputs[part])
        return total / len(inputs)

    def keep_model(step: int) -> None:
        _export(state_directory / "checkpoints" / f"step={step}", model, tokenizer_directory, settings, seed, step)

    # progress: everything else that a resumed run needs; losses, norms and seconds are sums since the last row
    progress: dict[str, Any] = {
        "step": 0,
        "since": 0,
        "loss": 0.0,
        "norm": 0.0,
        "seconds": 0.0,
        "history": [],
        "timing": [],
    }
    newest = _newest(state_directory)
    if newest is not None:
        progress = _load_state(newest, model, optimizer)
        print(f"{where}: going on from step {progress['step']}")
    elif 0 in settings.keep:
        keep_model(0)

    # a line every ten seconds at most, so that logs stay short
    bar = tqdm(total=settings.steps, initial=progress["step"], desc=where, unit="step", mininterval=10)
    while progress["step"] < settings.steps:
        began = time.perf_counter()
        learning_rate = learning_rate_at(progress["step"], settings)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        inputs, targets = batch(tokens.train, seed=seed, step=progress["step"], batch=settings.batch, **windows)
        loss = loss_of(inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()

        progress["step"] += 1
        progress["since"] += 1
        progress["loss"] += loss.item()
        progress["norm"] += norm.item()
        progress["seconds"] += time.perf_counter() - began
        if not math.isfinite(progress["loss"] + progress["norm"]):
            raise DivergedError(
                f"{where}: the loss is {loss.item()} and the gradient norm {norm.item()} at step {progress['step']}; "
                "set a lower learning_rate or a longer warmup in the config"
            )

        step = progress["step"]
        bar.update()
        if step % settings.evaluate_every == 0 or step == settings.steps:
            since = progress["since"]
            row = {
                "run": settings.name,
                "variant": settings.variant,
                "seed": seed,
                "step": step,
                "tokens": step * settings.batch * settings.length,
                "train_loss": progress["loss"] / since,
                "validation_loss": validation_loss(),
                "learning_rate": learning_rate,
                "gradient_norm": progress["norm"] / since,
            }
            rate = since * settings.batch * settings.length / progress["seconds"]
            progress["history"].append(row)
            progress["timing"].append({"step": step, "seconds": progress["seconds"], "tokens_per_second": rate})
            progress.update(since=0, loss=0.0, norm=0.0, seconds=0.0)
            bar.set_postfix_str(
                f"train {row['train_loss']:.3f}, validation {row['validation_loss']:.3f}, {rate:,.0f} tokens/s", False
            )
        if step in settings.keep:  # before the state: a run that goes on from this step does not come here again
            keep_model(step)
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            _save_state(state_directory, model, optimizer, progress)
    bar.close()

    _export(run_directory / "model", model, tokenizer_directory, settings, seed, settings.steps)
    write_table(run_directory / "history.parquet", pa.Table.from_pylist(progress["history"], schema=HISTORY), HISTORY)
    write_table(run_directory / "timing.parquet", pa.Table.from_pylist(progress["timing"], schema=TIMING), TIMING)
    if settings.keep:
        # linked, not moved: a run killed here still finds them when it is started again
        with atomic_directory(run_directory / "checkpoints") as directory:
            for step in settings.keep:
                kept = state_directory / "checkpoints" / f"step={step}"
                shutil.copytree(checked_directory(kept), directory / kept.name, copy_function=_link)
    shutil.rmtree(state_directory)
