"""From an entry of the config to its edits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sinkorigin.interventions.kind import Edit, kind_named
from sinkorigin.tables import read_table


def applicable(entries: Sequence[Mapping], resolved: Sequence[Mapping]) -> dict[str, dict]:
    """Name → entry of the config, with layers as numbers and the positions that are left, for those that can be made.

    Args:
        resolved: rows of ``resolution.SCHEMA``, one an entry. That module is not imported here, because the versions of edits
            depend on what is, and another rule is to make no edit again.
    """
    rows = {row["intervention"]: row for row in resolved if row["applicable"]}
    found = [entry for entry in entries if entry["name"] in rows]
    return {one["name"]: {**one, **{key: rows[one["name"]][key] for key in ("layers", "positions")}} for one in found}


def table_facts(entry: Mapping, statistics: Mapping[str, str | Path]) -> dict[int, Any] | None:
    """Layer → what a table of statistics says of it, for the kinds that need one; None for the others.

    Args:
        entry: kind, layers (numbers, or None for all that the table names) and positions.
        statistics: name of a table → its file.

    Raises:
        NotApplicableError: the table does not have what the kind needs.
    """
    kind = kind_named(entry["kind"])
    if kind.needs is None:
        return None
    table = pl.DataFrame(read_table(statistics[kind.needs.table], kind.needs.columns))
    first = min(k for together in entry["positions"] for k in at_once(together))
    return kind.found(table, entry["layers"], first)


def edits_of(entry: Mapping, strength: float, facts: Mapping[int, Any] | None = None) -> list[Edit]:
    """The edits of a config entry at one of its strengths, in the order of its mean factors and positions.

    Args:
        entry: kind, layers (numbers), positions, and site, mean_factors and to where the kind has them.
        facts: of :func:`table_facts`, for the kinds that need a table.
    """
    kind = kind_named(entry["kind"])
    place = {"layers": entry["layers"]} if kind.needs is None else {kind.needs.parameter: facts}
    given = {"strength": strength, "site": entry.get("site"), "to": entry.get("to")}
    given = {name: value for name, value in given.items() if value is not None and kind.takes(name)}
    return [
        kind(positions=at_once(positions), **place, **given, **({} if factor is None else {"mean_factor": factor}))
        for factor in entry.get("mean_factors") or [None]
        for positions in entry["positions"]
    ]


def at_once(positions: int | list[int]) -> list[int]:
    """Positions that are edited at once; a number alone is one."""
    return [positions] if isinstance(positions, int) else positions
