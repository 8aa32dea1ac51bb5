"""Between long tables and arrays: one layer of a table as a full grid, and arrays as a table with nulls."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin.errors import SinkoriginError


def read_layers(
    path: str | Path, *, axes: Sequence[str], columns: Sequence[str], **where: object
) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """The layers of a long table, one at a time, in rising order: memory is bounded by the largest layer.

    Args:
        path: Parquet table with a column ``layer``.
        axes: columns that number the rows of a layer, outermost first, such as sequence, position.
        columns: value columns; floats come as float64, with NaN for null.
        **where: only rows in which a column has this value.

    Yields:
        layer, {axis: its sorted values}, {column: array with one dimension an axis}.

    Raises:
        SinkoriginError: the table cannot be read, or a layer does not have exactly one row for each point of its grid.
    """
    try:
        rows = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        for name, value in where.items():
            rows = rows.filter(pl.col(name) == value)
        layers = rows.select(pl.col("layer").unique().sort()).collect()["layer"].to_list()
        for layer in layers:
            wanted = rows.filter(pl.col("layer") == layer).select(*axes, *columns)
            frame = wanted.sort(axes).collect()
            points = {axis: frame[axis].unique().sort().to_numpy() for axis in axes}
            shape = tuple(len(values) for values in points.values())
            if len(frame) != np.prod(shape):
                raise SinkoriginError(
                    f"{path}: layer {layer} has {len(frame)} rows for {' x '.join(map(str, shape))} "
                    f"({', '.join(axes)}); delete it and run the same command again"
                )
            values = {}
            for column in columns:
                series = frame[column]
                if series.dtype.is_float():
                    series = series.cast(pl.Float64)
                values[column] = series.to_numpy().reshape(shape)
            yield layer, points, values
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; delete it and run the same command again") from error


def to_table(schema: pa.Schema, **columns: object) -> pa.Table:
    """A table of ``schema`` from scalars and arrays of any shapes that broadcast; NaN and None become null.

    A row of the table is a point of the broadcast shape, in C order: give (L, 1) layers, (1, T) positions and
    (L, T) values.
    """
    arrays = {name: np.asarray(value) for name, value in columns.items()}
    shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    if set(arrays) != set(schema.names):
        raise ValueError(f"columns {sorted(arrays)} do not match {sorted(schema.names)}")
    return pa.table(
        [
            pa.array(np.broadcast_to(arrays[field.name], shape).reshape(-1), type=field.type, from_pandas=True)
            for field in schema
        ],
        schema=schema,
    )


def from_rows(schema: pa.Schema, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """A table of ``schema`` from one mapping a row; NaN and None become null."""
    return pa.table(
        [
            pa.array(
                [None if (value := row[field.name]) is None or value != value else value for row in rows],
                type=field.type,
            )
            for field in schema
        ],
        schema=schema,
    )
