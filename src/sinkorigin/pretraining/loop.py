"""The training loop: one straight line from token files to a Hugging Face directory, resumable to the bit."""

import ctypes
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import distributed
from torch.nn import functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from sinkorigin.errors import DivergedError, SinkoriginError
from sinkorigin.pretraining.acceleration import resolve_compile, resolve_dtype, use_cache_directory
from sinkorigin.pretraining.checkpoint import (
    check_origin,
    export_model,
    load_state,
    newest_state,
    publish_kept,
    read_origin,
    save_state,
)
from sinkorigin.pretraining.data import batch, load_tokens, tokenizer_sha256, validation_windows
from sinkorigin.pretraining.model import build_model
from sinkorigin.tables import checked_directory, schema, write_table

# the second moment forgets faster than PyTorch's 0.999: runs of a few thousand steps (as Llama 2's and nanoGPT's)
_BETAS = (0.9, 0.95)
_FINAL_LEARNING_RATE = 0.1  # of the peak, as Llama 2's
_LOOK_EVERY = 20  # steps between looks at the losses on a GPU: each waits for it

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
    accumulate: int = 1
    compile: bool | str = "auto"
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


# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next one: giving it back and faulting it in again is 3 % of a step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # other allocators have no such habit
        mallopt(_M_TRIM_THRESHOLD, 2**30)
        # what is larger than this goes back at once all the same
        if not mallopt(_M_MMAP_THRESHOLD, 2**30):
            mallopt(_M_MMAP_THRESHOLD, 2**25)  # the most that older versions take


def _be_deterministic(device: str) -> None:
    """Ask PyTorch for operations that give the same bits in every run, for the whole process."""
    # on a GPU one attention kernel (float32, memory-efficient) has no deterministic backward pass: warn, go on
    torch.use_deterministic_algorithms(True, warn_only=device != "cpu")
    # no operation here reads memory that it has not written; filling it first would cost 3 % of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    name = "CUBLAS_WORKSPACE_CONFIG"
    if device == "cpu" or name in os.environ:
        return
    # PyTorch wants to see this variable at the first product, and parses it again at every later one as long as it is set,
    # which made steps of small models on an H100 take up to 1.7 times as long. The workspace is the same size without it there.
    os.environ[name] = ":4096:8"
    one = torch.ones(1, 1, device=device)
    torch.mm(one, one)
    del os.environ[name]


def _optimizer(model: torch.nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices only: not the norms, and not a variant's scales and offsets, whatever their shape."""
    named = list(model.named_parameters())
    matrices = [parameter for name, parameter in named if name.endswith("weight") and parameter.dim() > 1]
    others = [parameter for name, parameter in named if not (name.endswith("weight") and parameter.dim() > 1)]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=_BETAS, fused=True)


class _Loss(torch.nn.Module):
    """Mean cross-entropy in nats per token: what is compiled, and wrapped where several processes train."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.model(input_ids=inputs, use_cache=False).logits  # (N, T, vocabulary)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def _provenance(settings: TrainingSettings, seed: int, step: int, computed: dict[str, Any]) -> dict[str, Any]:
    name, label = f"{settings.name}-seed{seed}", f"{settings.name.replace('_', ' ')}, seed {seed}"
    if step < settings.steps:
        name, label = f"{name}-step{step}", f"{label}, step {step}"
    return {
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
        "computed": computed,
    }


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
    cache_directory: str | Path | None = None,
) -> None:
    """Train one model, and write ``model/``, ``history.parquet`` and ``timing.parquet`` into ``run_directory``.

    With ``settings.keep``, ``checkpoints/step={step}/`` too, each a Hugging Face directory, under one manifest.

    A run that was stopped goes on from the newest state in ``state_directory``, and on a CPU with the same number of
    threads it ends with the same history, weights and kept models to the bit as one that was not. Give each
    configuration a state directory of its own (``state_key``). It is removed at the end.

    Where a process group of torch.distributed is there, each process takes its share of every batch and the first one
    writes (``processes.train_in_processes`` starts such a group); the batches and their order stay the same.

    Sets PyTorch's number of threads and its deterministic mode, and what glibc keeps of freed memory, for the whole process.

    Args:
        threads: of each process.
        device: "cpu" or "cuda".
        cache_directory: where compiled code is kept, so that runs of the same shape share it.

    Raises:
        SinkoriginError: too short a corpus, a batch that cannot be split, token files of another tokenizer, a state of
            another configuration, no such device or compiler, a full disk, or a loss that is no number.
    """
    run_directory, state_directory = Path(run_directory), Path(state_directory)
    tokenizer_directory = checked_directory(tokenizer_directory)
    where = f"run {settings.name}, seed {seed}"
    grouped = distributed.is_initialized()
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if grouped else (0, 1)
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
    micro, left = divmod(settings.batch, settings.accumulate * processes)
    if left:
        raise SinkoriginError(
            f"{where}: a batch of {settings.batch} cannot be split into {settings.accumulate} micro-batches on each of "
            f"{processes} processes; make batch a multiple of {settings.accumulate * processes} in the config"
        )

    torch.set_num_threads(threads)
    _keep_freed_memory()
    _be_deterministic(device)

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

    dtype, why_dtype = resolve_dtype(settings.dtype, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    compiled, why_compiled = resolve_compile(
        settings.compile,
        device,
        parameters=parameters,
        layers=settings.layers,
        tokens=settings.steps * settings.batch * settings.length,
    )
    origin: dict[str, Any] = {
        "settings": json.loads(json.dumps(asdict(settings))),  # as they come back from the file: tuples are lists
        "seed": seed,
        "vocabulary": tokens.vocabulary,
        "tokenizer_sha256": tokens.tokenizer_sha256,
        "dtype": dtype,
    }
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
    newest = newest_state(state_directory)
    if newest is not None:
        found = read_origin(newest, [step for step in settings.keep if step <= int(newest.name.split("=")[1])])
        check_origin(where, newest, found, origin)
        if found["dtype"] != dtype:  # it was begun on another machine
            dtype, why_dtype = found["dtype"], f"{found['dtype']}, because the run was begun in it"
            origin["dtype"] = dtype
        progress = load_state(newest, model, optimizer)
        if rank == 0:
            print(f"{where}: going on from step {progress['step']}")
    if grouped:
        distributed.barrier()  # before the first process writes where the others have just read
    if rank == 0:
        print(f"{where}: {parameters:,} parameters; {why_dtype}; {why_compiled}")
    computed = {
        "device": device,
        "dtype": dtype,
        "compile": compiled,
        "threads": threads,
        "processes": processes,
        "torch": torch.__version__,
    }

    # `measured` is never compiled: batches of validation have other shapes, each would be compiled anew
    measured = _Loss(model)
    shared = torch.nn.parallel.DistributedDataParallel(measured) if grouped else None
    trained: Callable = measured if shared is None else shared
    if compiled:
        use_cache_directory(cache_directory)
        trained = torch.compile(trained, dynamic=False)
    autocast = torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=dtype == "bfloat16")

    def to_device(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    windows = {"length": settings.length, "first": tokens.eos if settings.first_token else None}
    validation = validation_windows(
        tokens.validation, count=max(1, settings.validation_tokens // settings.length), **windows
    )

    @torch.no_grad()
    def validation_loss() -> float:
        inputs, targets = (part[rank::processes] for part in validation)
        total = torch.zeros((), dtype=torch.float64, device=device)
        for start in range(0, len(inputs), micro):
            part = slice(start, start + micro)
            with autocast:
                total += measured(to_device(inputs[part]), to_device(targets[part])) * len(inputs[part])
        if grouped:
            distributed.all_reduce(total)
        return total.item() / len(validation[0])

    def keep_model(step: int) -> None:
        provenance = _provenance(settings, seed, step, computed)
        export_model(state_directory / "checkpoints" / f"step={step}", model, tokenizer_directory, provenance)

    def stop_for(step: int, what: str) -> None:
        last = newest_state(state_directory)
        raise DivergedError(
            f"{where}: {what} at step {step}; "
            + (f"the state of step {last.name.split('=')[1]} is kept in {last}; " if last is not None else "")
            + "set a lower learning_rate or a longer warmup in the config"
        )

    waiting: list[torch.Tensor] = []  # loss and gradient norm of the steps since the last look

    def look() -> None:
        """Add the steps since the last look to the progress, or stop at the first that is no number."""
        values = torch.stack(waiting)  # (steps, 2)
        if grouped:
            distributed.all_reduce(values)
            values /= processes
        for number, (loss, norm) in enumerate(values.tolist(), progress["step"] - len(waiting) + 1):
            if not math.isfinite(loss + norm):
                stop_for(number, f"the loss is {loss} and the gradient norm {norm}")
            progress["loss"] += loss
            progress["norm"] += norm
        waiting.clear()

    if 0 in settings.keep and newest is None and rank == 0:
        keep_model(0)
    # a line every ten seconds at most, so that logs stay short
    bar = tqdm(
        total=settings.steps, initial=progress["step"], desc=where, unit="step", mininterval=10, disable=rank > 0
    )
    began = time.perf_counter()
    while progress["step"] < settings.steps:
        learning_rate = learning_rate_at(progress["step"], settings)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        inputs, targets = batch(tokens.train, seed=seed, step=progress["step"], batch=settings.batch, **windows)
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for number in range(settings.accumulate):
            share = slice((number * processes + rank) * micro, (number * processes + rank + 1) * micro)
            # processes exchange gradients with the last micro-batch only
            last = number == settings.accumulate - 1
            with nullcontext() if last or shared is None else shared.no_sync():
                with autocast:
                    loss = trained(to_device(inputs[share]), to_device(targets[share])) / settings.accumulate
                loss.backward()
            losses.append(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        waiting.append(torch.stack([torch.stack(losses).sum(), norm]))

        progress["step"] += 1
        progress["since"] += 1
        step = progress["step"]
        bar.update()
        row_is_due = step % settings.evaluate_every == 0 or step == settings.steps
        state_is_due = step % settings.checkpoint_every == 0 or step == settings.steps
        pause = row_is_due or state_is_due or step in settings.keep
        if pause or device == "cpu" or step % _LOOK_EVERY == 0:
            look()
        if not pause:
            continue

        progress["seconds"] += time.perf_counter() - began
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            stop_for(step, "a weight is no longer a finite number")
        if row_is_due:
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
        if step in settings.keep and rank == 0:  # before the state: a run that goes on from it does not come here again
            keep_model(step)
        if state_is_due and rank == 0:
            save_state(state_directory, model, optimizer, progress, origin)
        began = time.perf_counter()
    bar.close()
    if rank > 0:
        return

    provenance = _provenance(settings, seed, settings.steps, computed)
    export_model(run_directory / "model", model, tokenizer_directory, provenance)
    write_table(run_directory / "history.parquet", pa.Table.from_pylist(progress["history"], schema=HISTORY), HISTORY)
    write_table(run_directory / "timing.parquet", pa.Table.from_pylist(progress["timing"], schema=TIMING), TIMING)
    if settings.keep:
        publish_kept(state_directory / "checkpoints", run_directory / "checkpoints", settings.keep)
    shutil.rmtree(state_directory)
