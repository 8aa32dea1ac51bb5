"""The checks on every decoder class that transformers registers, each in a process of its own: ``support.parquet``."""

import multiprocessing
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import pyarrow as pa
import torch
import transformers

from sinkorigin.errors import SinkoriginError
from sinkorigin.support.checks import try_model
from sinkorigin.support.page import BUT, REFUSED, SCHEMA, SUPPORTED, UNTRIED
from sinkorigin.support.tiny import tiny_model


@dataclass(frozen=True)
class Row:
    """What is said of one class; see ``page.SCHEMA``."""

    model_type: str
    model_class: str
    outcome: str
    reason: str | None = None
    attention_layers: int | None = None
    layers: int | None = None
    eager: bool | None = None
    partial: bool | None = None


def tried(model_type: str, model_class: str) -> Row:
    """Make a tiny instance of a class and run the checks on it."""
    try:
        model = tiny_model(model_type)
    except SinkoriginError as error:
        return Row(model_type, model_class, UNTRIED, str(error).partition(" (")[2].rpartition("); ")[0])
    try:
        trial = try_model(model, model_type)
    except SinkoriginError as error:
        reason = (
            str(error).removeprefix(f"model {model_type}: ").rpartition("; ")[0]
        )  # what to do is for one's own model
        return Row(model_type, model_class, REFUSED, reason)
    return Row(
        model_type,
        model_class,
        BUT if trial.lacking else SUPPORTED,
        "; ".join(trial.lacking) or None,
        trial.attends,
        trial.layers,
        trial.eager,
        trial.partial,
    )


def survey(types: Sequence[tuple[str, str]], *, workers: int, seconds: float) -> pa.Table:
    """Rows of ``page.SCHEMA`` for these model types and classes.

    Args:
        workers: classes that are tried at the same time.
        seconds: time for one class.
    """
    rows = sorted(_rows(list(types), workers, seconds), key=lambda row: row.model_type)
    version = transformers.__version__
    return pa.Table.from_pylist([asdict(row) | {"transformers": version} for row in rows], schema=SCHEMA)


@dataclass
class _Trying:
    """A class that a process is at."""

    model_type: str
    model_class: str
    process: BaseProcess
    until: float


def _rows(waiting: list[tuple[str, str]], workers: int, seconds: float) -> Iterator[Row]:
    # forked, so that PyTorch and transformers are imported once; nothing has computed in this process, so no threads are lost
    context = multiprocessing.get_context("fork")
    running: dict[Connection, _Trying] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            names = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(theirs, *names), daemon=True)
            process.start()
            theirs.close()
            running[ours] = _Trying(*names, process, time.monotonic() + seconds)
        remaining = min(trying.until for trying in running.values()) - time.monotonic()
        done = wait(list(running), timeout=max(0.0, remaining))
        late = [ours for ours, trying in running.items() if trying.until <= time.monotonic() and ours not in done]
        for ours in [one for one in running if one in done or one in late]:
            trying = running.pop(ours)
            reason = f"the checks were not done after {seconds:g} s"
            try:
                row = ours.recv() if ours in done else None
            except EOFError:  # the process ended without an answer
                trying.process.join()
                reason, row = f"the process that tried it ended with code {trying.process.exitcode}", None
            trying.process.kill()
            trying.process.join()
            ours.close()
            yield row or Row(trying.model_type, trying.model_class, REFUSED, reason)


def _work(answer: Connection, model_type: str, model_class: str) -> None:
    """Try one class in this process and send its row."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    try:
        row = tried(model_type, model_class)
    except Exception as error:  # a defect, which costs this row only
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        row = Row(model_type, model_class, REFUSED, f"the checks ended with an unexpected {reason}")
    answer.send(row)
