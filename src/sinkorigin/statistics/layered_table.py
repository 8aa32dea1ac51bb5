"""Reading a long table a layer at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.arrow_arrays import equal_to, lists_to_numpy, to_numpy

_AT_ONCE = 2**22  # bytes that are read in one pass


class LayeredTable:
    """The rows of one layer at a time, of a Parquet table with a column ``layer``.

    A table that was written by sequence has all layers in each row group, and to find one layer is to read them all. So
    a pass keeps as many of the following layers as fit ``_AT_ONCE`` bytes: memory is that, or that of the largest layer,
    whatever the number of sequences. Ask for layers in rising order.
    """

    def __init__(self, path: str | Path, columns: Sequence[str], **where: object):
        """Open the table.

        Args:
            columns: to read. **where: only rows in which a column has this value.

        Raises:
            SinkoriginError: this is no Parquet file, or lacks one of these columns; also from :meth:`rows`.
        """
        self.path = Path(path)
        self._columns, self._where = list(columns), where
        texts = [name for name, value in where.items() if isinstance(value, str)]
        with self._told():
            self._file = pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False)  # else it is read whole
            metadata = self._file.metadata
            names = [metadata.schema.column(i).path.partition(".")[0] for i in range(metadata.num_columns)]
            self._place = {name: names.index(name) for name in ("layer", *where, *columns)}
            rows = self._count_rows()
        size = sum(
            metadata.row_group(group).column(i).total_uncompressed_size
            for group in range(metadata.num_row_groups)
            for i in (self._place[name] for name in self._columns)
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
            with self._told():
                self._kept = self._read(self._following(layer))
        return {name: _joined(parts) for name, parts in self._kept[layer].items()}

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Damage of the file as one sentence."""
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            raise SinkoriginError(
                f"{self.path} cannot be read as Parquet, or lacks a column ({error}); {tables.remedy(self.path)}"
            ) from error

    def _following(self, layer: int) -> list[int]:
        """The layer and those after it that fit into one pass."""
        chosen, total = [layer], self._bytes.get(layer, 0)
        for other in self.layers:
            if other > layer:
                total += self._bytes[other]
                if total > _AT_ONCE:
                    break
                chosen.append(other)
        return chosen

    def _may_hold(self, group: int, **bounds: tuple) -> bool:
        """Whether the row group's statistics leave room for values within these bounds."""
        for name, (low, high) in bounds.items():
            found = self._file.metadata.row_group(group).column(self._place[name]).statistics
            if found is not None and found.has_min_max and (found.max < low or found.min > high):
                return False
        return True

    def _chosen(self, table: pa.Table | pa.RecordBatch) -> np.ndarray:
        """(rows,) whether a row is one of ``where``."""
        chosen = np.ones(table.num_rows, dtype=bool)
        for name, value in self._where.items():
            chosen &= equal_to(table.column(name), value)
        return chosen

    def _groups(self, **bounds: tuple) -> list[int]:
        bounds |= {name: (value, value) for name, value in self._where.items()}
        return [group for group in range(self._file.num_row_groups) if self._may_hold(group, **bounds)]

    def _count_rows(self) -> dict[int, int]:
        """Layer → number of its rows."""
        rows: dict[int, int] = {}
        for batch in self._file.iter_batches(
            row_groups=self._groups(), columns=["layer", *self._where], use_threads=False
        ):
            layers = to_numpy(batch.column("layer"))[self._chosen(batch)]
            if len(layers):
                first = int(layers.min())
                counts = np.bincount(layers - first)
                for step in np.flatnonzero(counts):
                    rows[first + int(step)] = rows.get(first + int(step), 0) + int(counts[step])
        return rows

    def _read(self, layers: list[int]) -> dict[int, dict[str, list[np.ndarray | None]]]:
        """One pass: layer → column → its parts, one a row group."""
        kept: dict[int, dict[str, list]] = {layer: {name: [] for name in self._columns} for layer in layers}
        names = list(dict.fromkeys(("layer", *self._where, *self._columns)))
        for group in self._groups(layer=(layers[0], layers[-1])):
            table = self._file.read_row_group(group, columns=names, use_threads=False)
            own = to_numpy(table.column("layer"))
            chosen = np.flatnonzero(self._chosen(table) & (own >= layers[0]) & (own <= layers[-1]))
            own = own[chosen]
            if (own[1:] < own[:-1]).any():
                order = np.argsort(own, kind="stable")
                own, chosen = own[order], chosen[order]
            ends = [tuple(np.searchsorted(own, [layer, layer + 1])) for layer in layers]
            everything = len(own) == table.num_rows and (chosen[1:] > chosen[:-1]).all()
            for name in self._columns:
                column = table.column(name)
                values = lists_to_numpy(column) if pa.types.is_list(column.type) else to_numpy(column)
                if values is not None and not everything:
                    values = values[chosen]  # a copy, so that the other layers' rows do not stay
                for layer, (first, end) in zip(layers, ends, strict=True):
                    if first < end:
                        kept[layer][name].append(None if values is None else values[first:end])
        return kept


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    if any(part is None for part in parts):
        return None
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0)
