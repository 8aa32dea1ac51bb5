"""The tables of a study that its page tells of: by model and prompt set, and all of one name as one."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin.claims.verdicts import places_of
from sinkorigin.tables import not_applicable, read_table


class PageTables:
    """Statistics of a study, as far as it has them.

    Attributes:
        edited: (model, prompts) → folder of the interventions there.
    """

    def __init__(
        self,
        paths: Mapping[str, Sequence[str | Path]],
        edited: Mapping[tuple[str, ...], Path] | None = None,
        whole: Mapping[str, str | Path] | None = None,
    ):
        """Take the files of tables.

        Args:
            paths: name of a table → its files, whose paths end in ``{model}/{prompts}/{name}.parquet``.
            edited: (model, prompts) → folder of the interventions there, with ``baseline`` and ``edited``.
            whole: name of a table of the whole study → its file; its place is ``()``.
        """
        self.edited = dict(edited or {})
        self._places = {name: places for name, places in places_of(paths).items() if places}
        self._places |= {name: {(): Path(path)} for name, path in (whole or {}).items()}
        self._read: dict[Path, pl.DataFrame | None] = {}

    def names(self) -> list[str]:
        """Names of the tables, those without files left out."""
        return list(self._places)

    def files(self, name: str) -> dict[tuple[str, ...], Path]:
        """(model, prompts) → file of a table."""
        return dict(self._places.get(name, {}))

    def read(self, name: str, *place: str) -> pl.DataFrame | None:
        """The table of a model and prompt set; None where the study does not have it, or it is not applicable or empty."""
        path = self._places.get(name, {}).get(place)
        if path is None:
            return None
        if path not in self._read:
            table = None if not_applicable(path) else pl.DataFrame(read_table(path))
            self._read[path] = None if table is None or table.is_empty() else table
        return self._read[path]

    def columns(self, name: str) -> list[tuple[str, str]]:
        """Columns of a table with their descriptions: a file of what is not applicable may have none."""
        return max(map(described, self._places[name].values()), key=len)

    def whole(self, name: str) -> pl.DataFrame | None:
        """All tables of one name below each other, which have columns ``model`` and ``prompts``; None where there is none."""
        tables = [self.read(name, *place) for place in self._places.get(name, {})]
        known = [table for table in tables if table is not None]
        return pl.concat(known, how="diagonal_relaxed") if known else None


def described(path: Path) -> list[tuple[str, str]]:
    """Column and description of a table, from its schema."""
    fields = pq.read_schema(path)
    return [(field.name, (field.metadata or {}).get(b"description", b"").decode()) for field in fields]


def rows_of(paths: Iterable[str | Path], schema: pa.Schema) -> tuple[list[dict], list[str]]:
    """Rows of a table, with null for columns that it lacks.

    Args:
        paths: the table; none in a study in which it could not be made.
        schema: that this version writes.

    Returns:
        The rows, and the columns of the schema that the table does not have: it was made by another version.
    """
    rows: list[dict] = []
    lacking: list[str] = []
    for path in paths:
        table = read_table(path)
        lacking += [name for name in schema.names if name not in table.column_names]
        rows += [dict.fromkeys(schema.names) | row for row in table.to_pylist()]
    return rows, lacking


def mean_of(table: pl.DataFrame, column: str) -> float:
    """Mean of a column of numbers that has some."""
    values = table[column].drop_nulls().to_list()
    return sum(values) / len(values)
