"""Between long tables and arrays: one layer of a table as a full grid, and arrays or rows as a table with nulls."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError

_AT_ONCE = 2**22  # bytes of a table that one pass keeps


class LayeredTable:
    """The rows of one layer at a time, of a Parquet table with a column ``layer``.

    A table that was written by sequence has all layers in each row group, so that finding one layer means reading them
    all. A pass therefore keeps as many of the following layers as fit into ``_AT_ONCE`` bytes: memory is that, or that of
    the largest layer, whatever the number of sequences. Layers are to be read in rising order.

    Attributes:
        path: the file.
        layers: numbers of the layers that have rows, rising.
    """

    def __init__(self, path: str | Path, columns: Sequence[str], **where: object):
        """Open the table.

        Args:
            path: Parquet table with a column ``layer``.
            columns: to read.
            **where: only rows in which a column has this value.

        Raises:
            SinkoriginError: this is no Parquet file, or lacks one of these columns; also from :meth:`rows`.
        """
        self.path = Path(path)
        self._columns = list(columns)
        self._where = where
        with self._damage_in_one_sentence():
            self._file = pq.ParquetFile(path, pre_buffer=False)  # else it is read whole
            rows: Counter[int] = Counter()
            for group in range(self._file.num_row_groups):
                layers, counts = np.unique(self._read(group, [])["layer"], return_counts=True)
                rows.update(dict(zip(layers.tolist(), counts.tolist(), strict=True)))
            metadata = self._file.metadata
            size = sum(
                column.total_uncompressed_size
                for group in map(metadata.row_group, range(metadata.num_row_groups))
                for column in map(group.column, range(group.num_columns))
                if column.path_in_schema.partition(".")[0] in self._columns
            )
        self.layers = sorted(rows)
        self._bytes = {layer: count * size / metadata.num_rows for layer, count in rows.items()}
        self._kept: dict[int, dict[str, list[np.ndarray | None]]] = {}

    def rows(self, layer: int) -> dict[str, np.ndarray | None]:
        """Column → its values in this layer, in the order of the file.

        Returns:
            (rows,) values, or (rows, width) where they are lists, or None where a list of its row groups is null. No
            rows for a layer that is not in the table.
        """
        if layer not in self._kept:
            self._kept = {}  # before the next ones are read
            with self._damage_in_one_sentence():
                self._kept = self._pass_over([layer, *self._following(layer)])
        return {name: _joined(parts) for name, parts in self._kept[layer].items()}

    @contextmanager
    def _damage_in_one_sentence(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            raise SinkoriginError(
                f"{self.path} cannot be read as Parquet, or lacks a column ({error}); {tables.remedy(self.path)}"
            ) from error

    def _read(self, group: int, columns: Sequence[str]) -> dict[str, np.ndarray | None]:
        """Layer and columns of the chosen rows of a row group."""
        names = list(dict.fromkeys(("layer", *self._where, *columns)))
        found = pl.DataFrame(self._file.read_row_group(group, columns=names, use_threads=False))
        if missing := set(names) - set(found.columns):
            raise KeyError(min(missing))
        chosen = np.ones(len(found), dtype=bool)
        for name, value in self._where.items():
            chosen &= (found[name] == value).to_numpy()
        values = {name: _values(found[name]) for name in ("layer", *columns)}
        return {name: column if column is None else column[chosen] for name, column in values.items()}

    def _following(self, layer: int) -> Iterator[int]:
        """The next layers that fit into the same pass."""
        total = self._bytes.get(layer, 0)
        for other in self.layers:
            if other > layer:
                total += self._bytes[other]
                if total > _AT_ONCE:
                    return
                yield other

    def _may_hold(self, group: int, layers: Sequence[int]) -> bool:
        """Whether the statistics of a row group leave room for a layer between the first and the last of these."""
        place = self._file.schema_arrow.names.index("layer")
        found = self._file.metadata.row_group(group).column(place).statistics
        return found is None or not found.has_min_max or (found.max >= layers[0] and found.min <= layers[-1])

    def _pass_over(self, layers: Sequence[int]) -> dict[int, dict[str, list[np.ndarray | None]]]:
        """Layer → column → its parts, one a row group: one row group in memory at a time, and what is kept of it."""
        kept: dict[int, dict[str, list]] = {layer: {name: [] for name in self._columns} for layer in layers}
        for group in range(self._file.num_row_groups):
            if not self._may_hold(group, layers):
                continue
            found = self._read(group, self._columns)
            for layer in layers:
                here = np.flatnonzero(found["layer"] == layer)
                for name, parts in kept[layer].items() if len(here) else ():
                    parts.append(None if found[name] is None else found[name][here])
        return kept


def _values(column: pl.Series) -> np.ndarray | None:
    """(rows,) values, with NaN or None for null, or (rows, width) of equally long lists; None where a list is null."""
    if not isinstance(column.dtype, pl.List):
        return column.to_numpy()
    return None if column.null_count() else column.explode().to_numpy().reshape(len(column), -1)


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    if any(part is None for part in parts):
        return None
    return np.concatenate(parts) if parts else np.empty(0)


def read_layers(
    path: str | Path, *, axes: Sequence[str], columns: Sequence[str], **where: object
) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """The layers of a long table, one at a time, in rising order: memory is bounded as that of :class:`LayeredTable`.

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
    """One layer of a table as :func:`read_layers` gives it, for tables that are read side by side.

    Returns:
        {axis: its sorted values}, {column: array}. Columns of lists have one more dimension, or are None where a list is
        null; a layer without rows has empty axes.
    """
    rows = table.rows(layer)
    points = {axis: np.unique(rows[axis]) for axis in axes}
    shape = tuple(map(len, points.values()))
    count = len(rows[axes[0]])
    full = count == np.prod(shape)
    if full and not _in_order(rows, points):
        order = np.lexsort([rows[axis] for axis in reversed(axes)])
        rows = {name: values if values is None else values[order] for name, values in rows.items()}
    if not full or not _in_order(rows, points):
        raise SinkoriginError(
            f"{table.path}: layer {layer} has {count} rows for {' x '.join(map(str, shape))} "
            f"({', '.join(axes)}); {tables.remedy(table.path)}"
        )
    return points, {name: _on_grid(rows[name], shape) for name in columns}


def _in_order(rows: Mapping[str, np.ndarray], points: Mapping[str, np.ndarray]) -> bool:
    """Whether the rows are the points of the grid in C order."""
    along = np.meshgrid(*points.values(), indexing="ij", sparse=True)
    shape = tuple(map(len, points.values()))
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

    Raises:
        ValueError: the columns are not those of the schema, or a value cannot be cast to its type without loss.
    """
    arrays = {name: np.asarray(value, dtype=object if value is None else None) for name, value in columns.items()}
    if set(arrays) != set(schema.names):
        raise ValueError(f"columns {sorted(arrays)} do not match {sorted(schema.names)}")
    shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    flat = {name: np.broadcast_to(array, shape).reshape(-1) for name, array in arrays.items()}
    return _cast(schema, {name: array.tolist() if array.dtype == object else array for name, array in flat.items()})


def from_rows(schema: pa.Schema, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """A table of ``schema`` from one mapping a row; NaN and None become null.

    Raises:
        ValueError: a value cannot be cast to its column's type without loss.
    """
    return _cast(schema, {name: [row[name] for row in rows] for name in schema.names})


def _cast(schema: pa.Schema, columns: Mapping[str, np.ndarray | list]) -> pa.Table:
    """A table of (rows,) values; made by Polars, because PyArrow imports pandas to read an array."""
    series = []
    for name in schema.names:
        values = columns[name]
        if isinstance(values, list):  # plain numbers, because Polars takes the first one's type for all of NumPy's
            values = [value.item() if isinstance(value, np.generic) else value for value in values]
            values = [None if value != value else value for value in values]  # NaN
        series.append(pl.Series(name, values, nan_to_null=True, strict=False))
    return pl.DataFrame(series).to_arrow().cast(schema)
