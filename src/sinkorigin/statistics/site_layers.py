"""Reading the vectors of a site that an extraction kept: one layer at a time, in blocks of whole sequences."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError

_WHOLE = 2_500_000  # numbers of a site up to which all its sequences are in memory at once
_BLOCK = 2**19  # numbers of a larger site that are in memory at once


def layer_files(site_directory: Path) -> list[tuple[int, Path]]:
    """(layer, file) of one site's directory, in order; a layer that lacks the site is not among them."""
    folders = [folder for folder in site_directory.iterdir() if folder.name.startswith("layer=")]
    return sorted((int(folder.name.removeprefix("layer=")), folder / "part-0.parquet") for folder in folders)


class SiteLayer:
    """The vectors of one site in one layer, read in blocks of sequences.

    Attributes:
        positions: (T,) positions that every sequence has.
        sequences: number of sequences N.
        width: number of dims d.
    """

    def __init__(self, path: Path):
        """Open the file.

        Raises:
            SinkoriginError: it cannot be read, or does not hold whole sequences; also from :meth:`blocks`.
        """
        self._path = path
        with self._damage_in_one_sentence():
            self._file = pq.ParquetFile(path, pre_buffer=False)  # else all that follows is read at once
            self.width = self._file.schema_arrow.field("activation").type.list_size
            self.positions = self._first_positions()
        rows = self._file.metadata.num_rows
        if not len(self.positions) or rows % len(self.positions):
            raise SinkoriginError(f"{path} does not hold whole sequences; {tables.remedy(path)}")
        self.sequences = rows // len(self.positions)

    def _first_positions(self) -> np.ndarray:
        """Positions of the first sequence."""
        parts: list[pl.Series] = []
        first = None
        for group in range(self._file.num_row_groups):
            rows = pl.DataFrame(self._file.read_row_group(group, columns=["sequence", "position"], use_threads=False))
            first = rows["sequence"][0] if first is None else first
            parts.append(rows.filter(pl.col("sequence") == first)["position"])
            if rows["sequence"][-1] != first:
                break
        return pl.concat(parts).to_numpy() if parts else np.empty(0, dtype=np.int32)

    @contextmanager
    def _damage_in_one_sentence(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowInvalid, KeyError) as error:  # KeyError: a foreign table
            raise SinkoriginError(f"{self._path} cannot be read as Parquet; {tables.remedy(self._path)}") from error

    def blocks(self) -> Iterator[np.ndarray]:
        """Blocks of (n, T, d) float32 in the order of the file: one of all sequences, if they are few."""
        length = len(self.positions)
        size = length * self.width
        at_once = self.sequences if self.sequences * size <= _WHOLE else max(1, _BLOCK // size)
        batches = self._file.iter_batches(
            batch_size=at_once * length, columns=["position", "activation"], use_threads=False
        )
        waiting: list[pl.DataFrame] = []  # a batch need not end where a sequence does
        while True:
            with self._damage_in_one_sentence():
                batch = next(batches, None)
            if batch is None:
                return
            waiting.append(pl.DataFrame(batch))
            if sum(map(len, waiting)) % length:
                continue
            block = pl.concat(waiting)
            waiting = []
            if (block["position"].to_numpy().reshape(-1, length) != self.positions).any():
                raise SinkoriginError(
                    f"{self._path} does not hold the same positions of every sequence; {tables.remedy(self._path)}"
                )
            yield block["activation"].to_numpy().reshape(-1, length, self.width)
