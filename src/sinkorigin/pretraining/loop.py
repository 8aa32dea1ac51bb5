"""Training loop: one straight line from token files to a Hugging Face directory, resumable to the bit."""

import json
import math
import os
import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
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
from sinkorigin.pretraining.acceleration import resolve_compile, resolve_dtype
from sinkorigin.pretraining.checkpoint import (
    Origin,
    Progress,
    check_origin,
    export_model,
    load_state,
    newest_state,
    publish_kept,
    read_origin,
    save_state,
    step_of,
)
from sinkorigin.pretraining.data import Tokens, batch, load_tokens, tokenizer_sha256, validation_windows
from sinkorigin.pretraining.model import build_model
from sinkorigin.pretraining.optimizers import build_optimizers, set_learning_rate
from sinkorigin.pretraining.settings import TrainingSettings, learning_rate_at
from sinkorigin.tables import checked_directory, schema, write_table

_LOOK_EVERY = 20  # steps between looks at the losses on a GPU: each waits for it

HISTORY = schema(
    run=(pa.string(), "name of the run in the config"),
    variant=(pa.string(), "attention variant"),
    seed=(pa.int32(), "seed of the weights and of the order of the data"),
    step=(pa.int32(), "optimizer steps done"),
    tokens=(pa.int64(), "training tokens seen"),
    train_loss=(pa.float64(), "cross-entropy, nats per token, mean over the steps since the previous row"),
    validation_loss=(pa.float64(), "cross-entropy, nats per token, on the fixed validation windows"),
    learning_rate=(pa.float64(), "learning rate of the last step, AdamW's where Muon has another"),
    gradient_norm=(pa.float64(), "gradient norm before clipping, mean over the steps since the previous row"),
)
TIMING = schema(
    step=(pa.int32(), "optimizer steps done"),
    seconds=(pa.float64(), "wall time of the steps since the previous row, without evaluation and checkpoints, s"),
    tokens_per_second=(pa.float64(), "training tokens per second in that time"),
)


@dataclass(frozen=True)
class _Group:
    """Processes that train together: number of this process, of how many, and whether torch.distributed joins them."""

    rank: int = 0
    size: int = 1
    joined: bool = False


@dataclass(frozen=True)
class _Run:
    """One training: what it is called in messages, and what it writes where."""

    name: str  # of run and seed, for messages
    settings: TrainingSettings
    seed: int
    tokenizer_directory: Path
    state_directory: Path
    computed: dict[str, Any]  # how the machine computes it, for the provenance

    def export(self, model: PreTrainedModel, step: int, destination: Path) -> None:
        """Write the model after ``step`` as a Hugging Face directory with its provenance."""
        name = f"{self.settings.name}-seed{self.seed}"
        label = f"{self.settings.name.replace('_', ' ')}, seed {self.seed}"
        if step < self.settings.steps:
            name, label = f"{name}-step{step}", f"{label}, step {step}"
        provenance = {
            "model": name,
            "label": label,
            "source": "trained from scratch",
            **dict.fromkeys(("revision", "sha256", "licence", "quantisation")),
            "weights": "trained here",
            "seed": self.seed,
            "step": step,
            "training": asdict(self.settings),
            "computed": self.computed,
        }
        export_model(destination, model, self.tokenizer_directory, provenance)

    def diverged(self, step: int, what: str) -> DivergedError:
        """Error of a training whose numbers are no longer finite."""
        last = newest_state(self.state_directory)
        state = "" if last is None else f"the state of step {step_of(last)} is kept in {last}; "
        return DivergedError(
            f"{self.name}: {what} at step {step}; {state}set a lower learning_rate or a longer warmup in the config"
        )


def _be_deterministic(device: str) -> None:
    """Request operations of PyTorch that give the same bits in every run, for the whole process."""
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


def _load_tokens(name: str, settings: TrainingSettings, directory: str | Path, tokenizer_directory: Path) -> Tokens:
    """Token files of a run, which must be its tokenizer's and more than a batch."""
    tokens = load_tokens(directory)
    if tokens.tokenizer_sha256 != tokenizer_sha256(tokenizer_directory):
        raise SinkoriginError(
            f"{name}: {directory} was not made with the tokenizer in {tokenizer_directory}; "
            "delete the former and run the same command again"
        )
    if len(tokens.train) <= settings.step_tokens:
        raise SinkoriginError(
            f"{name}: the training split has {len(tokens.train)} tokens, not more than one batch of {settings.batch} "
            f"× {settings.length}; set a smaller batch or length in the config or take a larger corpus"
        )
    return tokens


def _micro_batch(name: str, settings: TrainingSettings, group: _Group) -> int:
    """Sequences of a batch that one process reads at once."""
    micro, left = divmod(settings.batch, settings.accumulate * group.size)
    if left:
        raise SinkoriginError(
            f"{name}: a batch of {settings.batch} cannot be split into {settings.accumulate} micro-batches on each of "
            f"{group.size} processes; make batch a multiple of {settings.accumulate * group.size} in the config"
        )
    return micro


class _Loss(torch.nn.Module):
    """Mean cross-entropy in nats per token: what is compiled, and wrapped where several processes train."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.model(input_ids=inputs, use_cache=False).logits  # (N, T, vocabulary)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


class _Objective:
    """Loss of whole batches, on this process' share of them: ``accumulate`` micro-batches of ``micro`` sequences.

    Under ``autocast`` matrix products are in bfloat16.
    """

    def __init__(
        self, model: PreTrainedModel, group: _Group, *, micro: int, accumulate: int, autocast: bool, compiled: bool
    ):
        self.group, self.micro, self.accumulate = group, micro, accumulate
        self.device = next(model.parameters()).device
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=autocast)
        # the plain loss is never compiled: batches of validation have other shapes, each would be compiled anew
        self.loss = _Loss(model)
        self.parallel = torch.nn.parallel.DistributedDataParallel(self.loss) if group.joined else None
        self.trained: Any = self.loss if self.parallel is None else self.parallel
        if compiled:
            self.trained = torch.compile(self.trained, dynamic=False)

    def backward(self, inputs: np.ndarray, targets: np.ndarray) -> torch.Tensor:
        """Add the gradient of a batch (N, T) to the parameters'; the mean loss of this process' share of it."""
        losses = []
        for number in range(self.accumulate):
            start = (number * self.group.size + self.group.rank) * self.micro
            share = slice(start, start + self.micro)
            # processes exchange gradients with the last micro-batch only
            exchanged = self.parallel is None or number == self.accumulate - 1
            with nullcontext() if exchanged else self.parallel.no_sync():
                with self.autocast:
                    loss = self.trained(self._tensor(inputs[share]), self._tensor(targets[share])) / self.accumulate
                loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    @torch.no_grad()
    def mean(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        """Mean loss of windows (N, T), over all processes."""
        count = len(inputs)
        inputs, targets = (part[self.group.rank :: self.group.size] for part in (inputs, targets))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for start in range(0, len(inputs), self.micro):
            part = slice(start, start + self.micro)
            with self.autocast:
                total += self.loss(self._tensor(inputs[part]), self._tensor(targets[part])) * len(inputs[part])
        if self.group.joined:
            distributed.all_reduce(total)
        return total.item() / count

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def _add_losses(progress: Progress, waiting: list[torch.Tensor], group: _Group, run: _Run) -> None:
    """Move loss and gradient norm of the last steps from ``waiting``, a (2,) tensor a step, to the progress."""
    values = torch.stack(waiting)  # (steps, 2)
    if group.joined:
        distributed.all_reduce(values)
        values /= group.size
    for step, (loss, norm) in enumerate(values.tolist(), progress.step - len(waiting) + 1):
        if not math.isfinite(loss + norm):
            raise run.diverged(step, f"the loss is {loss} and the gradient norm {norm}")
        progress.loss += loss
        progress.norm += norm
    waiting.clear()


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
    configuration its state directory (``settings.state_key``). It is removed at the end.

    Where a process group of torch.distributed is there, each process takes its share of every batch and the first one
    writes (``processes.train_in_processes`` starts such a group); the batches and their order stay the same.

    Sets PyTorch's number of threads and its deterministic mode for the whole process.

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
    name = f"run {settings.name}, seed {seed}"
    joined = distributed.is_initialized()
    group = _Group(distributed.get_rank(), distributed.get_world_size(), joined) if joined else _Group()
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SinkoriginError(
            f"{name}: device is {device} but PyTorch sees no GPU on this node; set device: cpu in the config"
        )
    tokens = _load_tokens(name, settings, tokens_directory, tokenizer_directory)
    micro = _micro_batch(name, settings, group)

    # what is trained, and how
    torch.set_num_threads(threads)
    _be_deterministic(device)
    model = build_model(
        settings.size,
        vocabulary=tokens.vocabulary,
        variant=settings.variant,
        seed=seed,
        eos=tokens.eos,
        options=settings.options,
        initialisation=settings.initialisation,
    )
    torch.nn.Module.to(model, device)  # transformers wraps `to` in a type that checkers misread
    model.train()
    optimizers = build_optimizers(model, settings)
    dtype, why_dtype = resolve_dtype(settings.dtype, device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    compiled, why_compiled = resolve_compile(
        settings.compile,
        device,
        parameters=parameters,
        layers=settings.layers,
        tokens=settings.steps * settings.step_tokens,
    )

    # where it starts: at the beginning, or where a run with the same origin was stopped
    origin = Origin(
        settings=json.loads(json.dumps(asdict(settings))),  # as they come back from the file: tuples are lists
        seed=seed,
        vocabulary=tokens.vocabulary,
        tokenizer_sha256=tokens.tokenizer_sha256,
        dtype=dtype,
    )
    progress, newest = Progress(), newest_state(state_directory)
    if newest is not None:
        found = read_origin(newest, [step for step in settings.keep if step <= step_of(newest)])
        check_origin(name, newest, found, origin)
        if found.dtype != dtype:  # it was begun on another machine
            dtype, why_dtype = found.dtype, f"{found.dtype}, because the run was begun in it"
            origin = replace(origin, dtype=dtype)
        progress = load_state(newest, model, optimizers)
        if group.rank == 0:
            print(f"{name}: going on from step {progress.step}")
    if group.joined:
        distributed.barrier()  # before the first process writes where the others have just read
    if group.rank == 0:
        print(f"{name}: {parameters:,} parameters; {why_dtype}; {why_compiled}")
    computed = {
        "device": device,
        "dtype": dtype,
        "compile": compiled,
        "threads": threads,
        "processes": group.size,
        "torch": torch.__version__,
    }
    run = _Run(name, settings, seed, tokenizer_directory, state_directory, computed)
    kept = state_directory / "checkpoints"
    if 0 in settings.keep and newest is None and group.rank == 0:
        run.export(model, 0, kept / "step=0")

    if compiled and cache_directory is not None:  # unless the user has chosen another place
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache_directory).absolute()))
    objective = _Objective(
        model, group, micro=micro, accumulate=settings.accumulate, autocast=dtype == "bfloat16", compiled=compiled
    )
    windows = {"length": settings.length, "first": tokens.eos if settings.first_token else None}
    validation = validation_windows(
        tokens.validation, count=max(1, settings.validation_tokens // settings.length), **windows
    )
    waiting: list[torch.Tensor] = []  # (2,) loss and gradient norm of each step since the last look
    # a line every ten seconds at most, so that logs stay short
    bar = tqdm(
        total=settings.steps, initial=progress.step, desc=name, unit="step", mininterval=10, disable=group.rank > 0
    )
    began = time.perf_counter()
    while progress.step < settings.steps:
        learning_rate = learning_rate_at(progress.step, settings)
        set_learning_rate(optimizers, learning_rate)
        inputs, targets = batch(tokens.train, seed=seed, step=progress.step, batch=settings.batch, **windows)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss = objective.backward(inputs, targets)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        for optimizer in optimizers:
            optimizer.step()
        waiting.append(torch.stack([loss, norm]))

        progress.step += 1
        progress.since += 1
        step = progress.step
        bar.update()
        row_is_due = step % settings.evaluate_every == 0 or step == settings.steps
        state_is_due = step % settings.checkpoint_every == 0 or step == settings.steps
        pause = row_is_due or state_is_due or step in settings.keep
        if pause or device == "cpu" or step % _LOOK_EVERY == 0:
            _add_losses(progress, waiting, group, run)
        if not pause:
            continue

        progress.seconds += time.perf_counter() - began
        if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
            raise run.diverged(step, "a weight is no longer a finite number")
        if row_is_due:
            row = {
                "run": settings.name,
                "variant": settings.variant,
                "seed": seed,
                "step": step,
                "tokens": step * settings.step_tokens,
                "train_loss": progress.loss / progress.since,
                "validation_loss": objective.mean(*validation),
                "learning_rate": learning_rate,
                "gradient_norm": progress.norm / progress.since,
            }
            rate = progress.since * settings.step_tokens / progress.seconds
            timing = {"step": step, "seconds": progress.seconds, "tokens_per_second": rate}
            progress = Progress(step, history=[*progress.history, row], timing=[*progress.timing, timing])
            bar.set_postfix_str(
                f"train {row['train_loss']:.3f}, validation {row['validation_loss']:.3f}, {rate:,.0f} tokens/s", False
            )
        # before the state: a run that goes on from it does not come here again
        if step in settings.keep and group.rank == 0:
            run.export(model, step, kept / f"step={step}")
        if state_is_due and group.rank == 0:
            save_state(state_directory, model, optimizers, progress, origin)
        began = time.perf_counter()
    bar.close()
    if group.rank > 0:
        return

    run.export(model, settings.steps, run_directory / "model")
    write_table(run_directory / "history.parquet", pa.Table.from_pylist(progress.history, schema=HISTORY), HISTORY)
    write_table(run_directory / "timing.parquet", pa.Table.from_pylist(progress.timing, schema=TIMING), TIMING)
    if settings.keep:
        publish_kept(kept, run_directory / "checkpoints", settings.keep)
    shutil.rmtree(state_directory)
