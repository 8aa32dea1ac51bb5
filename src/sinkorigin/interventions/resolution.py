"""What the interventions of a study are in one model: layers by rule as numbers, and what cannot be done, with its reason."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import NotApplicableError
from sinkorigin.interventions.entries import at_once, edits_of, table_facts
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.layers import FOUND, NUMBERS, RULES, Structure, layers_of
from sinkorigin.interventions.schemas import NUMBERS as LAYER_NUMBERS

SCHEMA = tables.schema(
    model=(pa.string(), "name of the model"),
    prompts=(pa.string(), "name of the prompt set"),
    intervention=(pa.string(), "name of the intervention in the config"),
    kind=(pa.string(), "kind of the edit, see docs/science.md"),
    to=(pa.string(), "dominating_dims: what the dims are set to, mean or zero; null for its default and other kinds"),
    calibration=(pa.int32(), "number of sequences set apart to take means over; 0 takes those that run"),
    layers_rule=(
        pa.string(),
        "until_onset, surges, first, middle, late or all, see docs/science.md; numbers where the config has such; found where a "
        "table of statistics says which",
    ),
    layers=(LAYER_NUMBERS, "the layers, counted from 0; none where there are none"),
    how=(pa.string(), "how these layers were found; null where none were"),
    positions=(pa.list_(LAYER_NUMBERS), "positions that are edited, those at once in one list"),
    applicable=(pa.bool_(), "whether the edit can be made at any position"),
    reason=(pa.string(), "why it, or some of its positions, cannot; null where all can"),
)

TABLES = {"resolved_interventions": SCHEMA}


def structure_of(architecture: pl.DataFrame, statistics: Mapping[str, str | Path]) -> Structure:
    """The structure that rules read.

    Args:
        architecture: layer, part, found and reason, of the model.
        statistics: name of a table → its file, for the tables of the rules that are used.
    """
    layers = int(architecture["layer"].max()) + 1
    onset, surges = None, ()
    if "sink_onset" in statistics:
        onset = tables.read_table(statistics["sink_onset"], ["layer"])["layer"][0].as_py()
    if "norm_changes" in statistics:
        changes = pl.DataFrame(tables.read_table(statistics["norm_changes"], ["kind", "layer"]))
        surges = tuple(changes.filter(kind="rise")["layer"].sort().to_list())
    return Structure(layers, onset, surges)


def resolve(
    entries: Sequence[Mapping],
    *,
    model: str,
    prompts: str,
    architecture: pl.DataFrame,
    by_rule: Mapping[str, str | Path],
    statistics: Mapping[str, str | Path],
    token_ids: np.ndarray,
    like: str | None = None,
) -> pa.Table:
    """What entries of the config are in one model on one prompt set.

    Args:
        entries: kind, name, layers, positions, strengths, and site, mean_factors, to and calibration where they have them.
        model, prompts: names, for the first columns.
        architecture: layer, part, found and reason: where the sites of the model are.
        by_rule: tables that layers are found in, by name: of the model, or of the one that it takes its layers from.
        statistics: tables of the model that kinds are computed from, by name.
        token_ids: (N, T) ids of the sequences that run.
        like: the model that it takes its layers from; None where these are its own.

    Returns:
        A table of ``SCHEMA``, one row an entry.
    """
    structure = structure_of(architecture, by_rule)
    missing = _missing_sites(architecture)
    rows = [
        {"model": model, "prompts": prompts, **_resolved(entry, structure, missing, statistics, token_ids, like)}
        for entry in entries
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _missing_sites(architecture: pl.DataFrame) -> dict[tuple[int, str], str]:
    """Layer and site → why the layer does not have it."""
    lacking = architecture.filter(pl.col("found").is_null())
    return {(layer, part): reason for layer, part, reason in lacking.select("layer", "part", "reason").rows()}


def _resolved(
    entry: Mapping,
    structure: Structure,
    missing: Mapping[tuple[int, str], str],
    statistics: Mapping[str, str | Path],
    token_ids: np.ndarray,
    like: str | None,
) -> dict:
    """A row of ``SCHEMA`` without model and prompts."""
    wanted = entry["layers"]
    row = {
        "intervention": entry["name"], "kind": entry["kind"], "to": entry.get("to"),
        "calibration": entry.get("calibration", 0),
        "layers_rule": FOUND if wanted is None else wanted if isinstance(wanted, str) else NUMBERS,
        "layers": [], "how": None, "positions": [], "applicable": False, "reason": None,
    }  # fmt: skip
    try:
        layers, row["how"] = _layers(entry, structure, missing, like)
        row["layers"] = layers or []
        facts = table_facts({**entry, "layers": layers}, statistics)
        row["layers"] = sorted(facts) if facts is not None else row["layers"]
        reasons = list(_reasons({**entry, "layers": layers}, facts, token_ids))
    except NotApplicableError as error:
        return {**row, "reason": str(error)}
    positions = [at_once(place) for place, reason in zip(entry["positions"], reasons, strict=True) if reason is None]
    left_out = dict.fromkeys(reason for reason in reasons if reason is not None)
    return {**row, "positions": positions, "applicable": bool(positions), "reason": "; ".join(left_out) or None}


def _layers(
    entry: Mapping, structure: Structure, missing: Mapping[tuple[int, str], str], like: str | None
) -> tuple[list[int] | None, str]:
    """Layers that have the site, and how they were found; None for all that a kind's table names."""
    wanted, kind = entry["layers"], kind_named(entry["kind"])
    if wanted is None:
        return None, f"every layer that the table {kind.needs.table} names"
    try:
        found = layers_of(wanted, structure)
    except NotApplicableError as error:
        raise NotApplicableError(_as_in(like, wanted, str(error))) from error
    site = entry.get("site", kind.site) if kind.takes("site") else kind.site
    lacking = {layer: missing[layer, site] for layer in found.layers if (layer, site) in missing}
    layers = [layer for layer in found.layers if layer not in lacking]
    how = _as_in(like, wanted, found.how)
    if lacking and (not layers or not isinstance(wanted, str)):
        layer, reason = next(iter(lacking.items()))
        raise NotApplicableError(f"layer {layer} has no {site}: {reason}")
    if lacking:
        how += f"; without layers {', '.join(map(str, lacking))}, where there is no {site}"
    return layers, how


def _as_in(like: str | None, wanted: str | Sequence[int], words: str) -> str:
    """Say whose structure decided, where it is that of another model."""
    measured = isinstance(wanted, str) and RULES[wanted].tables
    return f"as in {like}: {words}" if like is not None and measured else words


def _reasons(entry: Mapping, facts: Mapping | None, token_ids: np.ndarray) -> Iterator[str | None]:
    """Why an entry of layers in numbers changes nothing, or nothing that can be seen, at each of its positions."""
    length = token_ids.shape[1]
    alike = (token_ids == token_ids[0]).all(axis=0)  # (T,) whether all sequences have the same token
    same = int(alike.argmin()) if not alike.all() else length  # the first so many tokens are the same in all
    for place in entry["positions"]:
        positions = at_once(place)
        if positions[-1] >= length - 1:
            yield f"position {positions[-1]} has no later query in prompts of {length} tokens"
            continue
        edits = [
            edit
            for strength in entry["strengths"]
            for edit in edits_of({**entry, "positions": [place]}, strength, facts)
            if not edit.changes_nothing
        ]
        if edits and positions[-1] < same and all(edit.compares_sequences for edit in edits):
            label = kind_named(entry["kind"]).label
            begin = "token" if positions[-1] == 0 else f"{positions[-1] + 1} tokens"
            where = ", ".join(map(str, positions))
            yield f"every sequence begins with the same {begin}, so {label} changes nothing at position {where}"
        else:
            yield None
