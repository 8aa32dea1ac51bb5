"""Raw vectors of sites as Parquet tables: a row for every kept (sequence, position), one table a layer."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sinkorigin import tables
from sinkorigin.activations.columns import POSITION, POSITIONS, SEQUENCE


@lru_cache
def activation_schema(width: int) -> pa.Schema:
    """Schema of one layer of a site whose vectors have ``width`` numbers."""
    schema = tables.schema(
        sequence=SEQUENCE,
        position=POSITION,
        activation=(
            pa.list_(pa.field("element", pa.float32(), nullable=False), width),
            "the site's vector; heads are concatenated",
        ),
    )
    # levels of what is never null cost a sixth of the writing
    return schema.set(2, schema.field(2).with_nullable(False))


@dataclass(frozen=True)
class Kept:
    """Which part of a site is kept raw."""

    sequences: int | None = None  # the first so many sequences, or None for all of them
    positions: tuple[int, ...] | None = (
        None  # these positions, or None for the first POSITIONS, which few prompts exceed
    )


class RawVectors:
    """Tables of raw vectors, each opened when its first rows come: ``{folder of the site}/layer={layer}/part-0.parquet``.

    Args:
        kept, folders: for each site, the part of it that is kept, and its folder.
        files: stack that closes the tables.
    """

    def __init__(self, kept: Mapping[str, Kept], folders: Mapping[str, Path], files: ExitStack):
        self._kept, self._folders, self._files = kept, folders, files
        self._writers: dict[tuple[str, int], pq.ParquetWriter] = {}

    def part(self, site: str, first: int, values: Tensor) -> Tensor | None:
        """Kept part of (n, T, width) values from sequence ``first`` on, on the CPU in float32; None where nothing is kept."""
        kept = self._kept.get(site, Kept(sequences=0))
        count = len(values) if kept.sequences is None else min(len(values), max(0, kept.sequences - first))
        if not count:
            return None
        part = values[:count, :POSITIONS] if kept.positions is None else values[:count, list(kept.positions)]
        return part.to("cpu", torch.float32)

    def write(self, site: str, layer: int, first: int, values: Tensor) -> None:
        """Write the (n, P, width) values at the kept positions P of the sequences from number ``first`` on."""
        sequences, positions, width = values.shape
        schema = activation_schema(width)
        if (site, layer) not in self._writers:
            path = self._folders[site] / f"layer={layer}" / "part-0.parquet"
            # compression would save a sixth of the bytes, and take four times as long as all else of the writing
            writer = tables.table_writer(path, schema, compressed=False)
            self._writers[site, layer] = self._files.enter_context(writer)
        kept = self._kept[site].positions
        numbers = np.arange(positions) if kept is None else np.array(kept)
        flat = np.ascontiguousarray(values.numpy()).reshape(-1)
        self._writers[site, layer].write_batch(
            pa.record_batch(
                [
                    np.repeat(np.arange(first, first + sequences, dtype=np.int32), positions),
                    np.tile(numbers.astype(np.int32), sequences),
                    pa.FixedSizeListArray.from_arrays(flat, type=schema.field("activation").type),
                ],
                schema=schema,
            )
        )
