"""The end of every pretraining run, in one table."""

import json
import math
import struct
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.grids import from_rows

SCHEMA = tables.schema(
    run=(pa.string(), "name of the run in the config"),
    variant=(pa.string(), "attention variant"),
    seed=(pa.int32(), "seed of the weights and of the order of the data"),
    parameters=(pa.int64(), "number of stored parameters; tied embeddings count once"),
    tokens=(pa.int64(), "tokens trained on"),
    train_loss=(pa.float64(), "last training loss, nats per token: the mean since the row before"),
    validation_loss=(pa.float64(), "last validation loss, nats per token"),
)


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


def summary(histories: Sequence[str | Path], parameters: Sequence[int]) -> pa.Table:
    """The last losses of each run and seed.

    Args:
        histories: history tables (run, variant, seed, step, tokens, train_loss, validation_loss, ...).
        parameters: number of parameters of each of these models, in the same order.

    Returns:
        A table of ``SCHEMA``, a row for each history, in their order; a loss is the last that is not null.
    """
    rows = []
    for path, count in zip(histories, parameters, strict=True):
        try:
            history = pl.read_parquet(path, hive_partitioning=False, glob=False).sort("step")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise SinkoriginError(f"{path} cannot be read as Parquet; {tables.remedy(Path(path))}") from error
        if history.is_empty():
            raise SinkoriginError(f"{path} has no rows: the run trained for no step; raise its number of tokens")
        row = {"parameters": count}
        for name in ("run", "variant", "seed", "tokens"):
            row[name] = history[name][-1]
        for name in ("train_loss", "validation_loss"):
            known = history[name].drop_nulls()
            row[name] = known[-1] if len(known) else None
        rows.append(row)
    return from_rows(SCHEMA, rows)
