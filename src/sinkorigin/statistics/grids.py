"""Between long tables and arrays: one layer of a table as a full grid, and arrays as a table with nulls."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.arrow_arrays import repeated_text, to_arrow
from sinkorigin.statistics.layered_table import LayeredTable


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
    table = LayeredTable(path, [*axes, *columns], **where)
    for layer in table.layers:
        yield layer, *read_layer(table, layer, axes=axes, columns=columns)


def read_layer(
    table: LayeredTable, layer: int, *, axes: Sequence[str], columns: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One layer of a table of which these columns are read; as :func:`read_layers`, for tables that go side by side.

    Returns:
        {axis: its sorted values}, {column: array}. Columns of lists have one more dimension, or are None where a list is
        null; a layer without rows has empty axes.
    """
    rows = table.rows(layer)
    points = {axis: _distinct(rows[axis]) for axis in axes}
    shape = tuple(len(values) for values in points.values())
    count = len(rows[axes[0]])
    if count == np.prod(shape) and not _in_order(rows, points, shape):
        order = np.lexsort([rows[axis] for axis in reversed(axes)])
        rows = {name: values if values is None else values[order] for name, values in rows.items()}
    if count != np.prod(shape) or not _in_order(rows, points, shape):
        raise SinkoriginError(
            f"{table.path}: layer {layer} has {count} rows for {' x '.join(map(str, shape))} "
            f"({', '.join(axes)}); {tables.remedy(table.path)}"
        )
    return points, {name: _on_grid(rows[name], shape) for name in columns}


def _distinct(integers: np.ndarray) -> np.ndarray:
    """The values that occur, sorted; faster than ``numpy.unique`` because they number something."""
    if not len(integers):
        return integers
    first = integers.min()
    return first + np.flatnonzero(np.bincount(integers - first))


def _in_order(rows: Mapping[str, np.ndarray], points: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> bool:
    """Whether the rows are the points of the grid in C order."""
    along = np.meshgrid(*points.values(), indexing="ij", sparse=True)
    return all((rows[axis].reshape(shape) == values).all() for axis, values in zip(points, along, strict=True))


def _on_grid(values: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """(rows, ...) values as (*shape, ...), floats as float64."""
    if values is None:
        return None
    values = values.reshape(*shape, *values.shape[1:])
    return values.astype(np.float64) if values.dtype.kind == "f" else values


def to_table(schema: pa.Schema, **columns: object) -> pa.Table:
    """A table of ``schema`` from scalars and arrays of any shapes that broadcast; NaN and None become null.

    A row of the table is a point of the broadcast shape, in C order: give (L, 1) layers, (1, T) positions and
    (L, T) values.
    """
    arrays = {name: np.asarray(value, dtype=object if value is None else None) for name, value in columns.items()}
    shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    if set(arrays) != set(schema.names):
        raise ValueError(f"columns {sorted(arrays)} do not match {sorted(schema.names)}")
    rows = int(np.prod(shape))
    parts = []
    for field in schema:
        array = arrays[field.name]
        if array.ndim == 0 and pa.types.is_string(field.type):
            parts.append(repeated_text(array.item(), rows))
        else:
            parts.append(to_arrow(np.broadcast_to(array, shape).reshape(-1), field.type))
    return pa.Table.from_arrays(parts, schema=schema)


def from_rows(schema: pa.Schema, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """A table of ``schema`` from one mapping a row; NaN and None become null."""
    columns = []
    for field in schema:
        values = [row[field.name] for row in rows]
        lists = pa.types.is_list(field.type)
        columns.append(pa.array(values, field.type) if lists else to_arrow(np.array(values, dtype=object), field.type))
    return pa.Table.from_arrays(columns, schema=schema)
