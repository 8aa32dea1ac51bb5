"""Where every pretraining run ended: its last losses and its size, in one table."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import PARAMETERS, RUN, SEED, TOKENS

SCHEMA = tables.schema(
    **RUN,
    seed=SEED,
    parameters=PARAMETERS,
    tokens=TOKENS,
    train_loss=(pa.float64(), "last training loss, nats per token: the mean since the row before"),
    validation_loss=(pa.float64(), "last validation loss, nats per token"),
)

TABLES = {"pretraining": SCHEMA}


def compute(inputs: Mapping[str, Sequence[str]]) -> dict[str, pa.Table]:
    """Last losses of each run and seed.

    Args:
        inputs: paths of ``history``, the history tables (run, variant, seed, step, tokens, train_loss, validation_loss,
            ...), and of ``model``, the manifests of these models' directories, in one order.

    Returns:
        ``pretraining``, a table of ``SCHEMA`` with a row for each history, in their order; a loss is the last that is not
        null.

    Raises:
        SinkoriginError: a history has no rows or cannot be read, or a model has no file of weights.
    """
    rows = []
    for path, manifest in zip(inputs["history"], inputs["model"], strict=True):
        history = pl.DataFrame(tables.read_table(path)).sort("step")
        if history.is_empty():
            raise SinkoriginError(f"{path} has no rows: the run trained for no step; raise its number of tokens")
        losses = {name: last_known(history[name]) for name in ("train_loss", "validation_loss")}
        rows.append({**history.row(-1, named=True), **losses, "parameters": count_parameters(Path(manifest).parent)})
    return {"pretraining": from_rows(SCHEMA, rows)}


def last_known(column: pl.Series) -> float | None:
    """Last value that is not null; None where all are."""
    known = column.drop_nulls()
    return known[-1] if len(known) else None


def count_parameters(model_directory: str | Path) -> int:
    """Number of parameters in a directory's safetensors files, from their headers alone.

    A file begins with the header's length (8 bytes, little-endian) and the header, JSON of name → dtype, shape,
    offsets (https://github.com/huggingface/safetensors#format).
    """
    files = sorted(Path(model_directory).glob("*.safetensors"))
    if not files:
        raise SinkoriginError(f"{model_directory} has no safetensors file; delete it and run the same command again")
    total = 0
    for file in files:
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(size))
        total += sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total
