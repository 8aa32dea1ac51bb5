"""What the interventions of a study are in one model: layers by rule as numbers, and what cannot be done, with its reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    how=(
        pa.string(),
        "how these layers were found, and which neurons, dims or λ a table gives for them; null where none were",
    ),
    positions=(pa.list_(LAYER_NUMBERS), "positions that are edited, those at once in one list"),
    applicable=(pa.bool_(), "whether the edit can be made at any position"),
    reason=(pa.string(), "why it, or some of its positions, cannot; null where all can"),
)

TABLES = {"resolved_interventions": SCHEMA}


@dataclass(frozen=True)
class Known:
    """What decides about the interventions in a model on a prompt set.

    Attributes:
        structure: what rules read; of the model ``like``, where that is not None.
        missing: layer and site → why the layer does not have it.
        statistics: name of a table → its file, for the tables of the model that kinds are computed from.
        token_ids: (N, T) ids of the sequences that run.
        like: the model that this one takes its layers from.
    """

    structure: Structure
    missing: Mapping[tuple[int, str], str]
    statistics: Mapping[str, str | Path]
    token_ids: np.ndarray
    like: str | None = None

    @property
    def common(self) -> int:
        """Number of first tokens that are the same in all sequences."""
        alike = (self.token_ids == self.token_ids[0]).all(axis=0)  # (T,)
        return len(alike) if alike.all() else int(alike.argmin())


def structure_of(architecture: pl.DataFrame, statistics: Mapping[str, str | Path]) -> Structure:
    """The structure that rules read.

    Args:
        architecture: layer, part, found and reason: where the sites of the model are.
        statistics: name of a table → its file, for the tables of the rules that are used.
    """
    layers = len(architecture["layer"].unique())
    onset, surges = None, ()
    if "sink_onset" in statistics:
        onset = tables.read_table(statistics["sink_onset"], ["layer"])["layer"][0].as_py()
    if "norm_changes" in statistics:
        changes = pl.DataFrame(tables.read_table(statistics["norm_changes"], ["kind", "layer"]))
        surges = tuple(changes.filter(kind="rise")["layer"].sort().to_list())
    return Structure(layers, onset, surges)


def missing_sites(architecture: pl.DataFrame) -> dict[tuple[int, str], str]:
    """Layer and site → why the layer does not have it, from a table as :func:`structure_of` reads."""
    lacking = architecture.filter(pl.col("found").is_null())
    return {(layer, part): reason for layer, part, reason in lacking.select("layer", "part", "reason").rows()}


def resolve(entries: Sequence[Mapping], known: Known, *, model: str, prompts: str) -> pa.Table:
    """What entries of the config are in one model on one prompt set.

    Args:
        entries: kind, name, layers, positions, strengths, and site, mean_factors, to and calibration where they have them.
        model, prompts: names, for the first columns.

    Returns:
        A table of ``SCHEMA``, one row an entry.
    """
    rows = [{"model": model, "prompts": prompts, **_resolved(entry, known)} for entry in entries]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _resolved(entry: Mapping, known: Known) -> dict:
    """A row of ``SCHEMA`` without model and prompts."""
    wanted = entry["layers"]
    row = {
        "intervention": entry["name"], "kind": entry["kind"], "to": entry.get("to"),
        "calibration": entry.get("calibration", 0),
        "layers_rule": FOUND if wanted is None else wanted if isinstance(wanted, str) else NUMBERS,
        "layers": [], "how": None, "positions": [], "applicable": False, "reason": None,
    }  # fmt: skip
    try:
        layers, row["how"] = _layers(entry, known)
        row["layers"] = layers or []
        facts = table_facts({**entry, "layers": layers}, known.statistics)
        if facts is not None:
            row |= {"layers": sorted(facts), "how": f"{row['how']}: {kind_named(entry['kind']).described(facts)}"}
    except NotApplicableError as error:
        return {**row, "how": row["how"] if row["layers"] else None, "reason": str(error)}
    reasons = [_reason({**entry, "layers": layers, "positions": [place]}, facts, known) for place in entry["positions"]]
    positions = [at_once(place) for place, reason in zip(entry["positions"], reasons, strict=True) if reason is None]
    left_out = dict.fromkeys(reason for reason in reasons if reason is not None)
    return {**row, "positions": positions, "applicable": bool(positions), "reason": "; ".join(left_out) or None}


def _layers(entry: Mapping, known: Known) -> tuple[list[int] | None, str]:
    """Layers that have the site, and how they were found; None for all that a kind's table names."""
    wanted, kind = entry["layers"], kind_named(entry["kind"])
    if wanted is None:
        return None, f"every layer that the table {kind.needs.table} names"
    whose = f"as in {known.like}: " if known.like and isinstance(wanted, str) and RULES[wanted].tables else ""
    try:
        found = layers_of(wanted, known.structure)
    except NotApplicableError as error:
        raise NotApplicableError(f"{whose}{error}") from error
    site = entry.get("site", kind.site) if kind.takes("site") else kind.site
    lacking = {layer: known.missing[layer, site] for layer in found.layers if (layer, site) in known.missing}
    layers = [layer for layer in found.layers if layer not in lacking]
    if lacking and (not layers or not isinstance(wanted, str)):
        layer, reason = next(iter(lacking.items()))
        raise NotApplicableError(f"layer {layer} has no {site}: {reason}")
    without = f"; without layers {', '.join(map(str, lacking))}, where there is no {site}" if lacking else ""
    return layers, f"{whose}{found.how}{without}"


def _reason(entry: Mapping, facts: Mapping | None, known: Known) -> str | None:
    """Why an entry with layers in numbers and one place changes nothing, or nothing that can be seen; None where it does."""
    length, positions = known.token_ids.shape[1], at_once(entry["positions"][0])
    if positions[-1] >= length - 1:
        return f"position {positions[-1]} has no later query in prompts of {length} tokens"
    edits = [edit for strength in entry["strengths"] for edit in edits_of(entry, strength, facts)]
    edits = [edit for edit in edits if not edit.changes_nothing]
    if not edits or positions[-1] >= known.common or not all(edit.compares_sequences for edit in edits):
        return None
    begin = "token" if positions[-1] == 0 else f"{positions[-1] + 1} tokens"
    where = ", ".join(map(str, positions))
    return f"every sequence begins with the same {begin}, so {edits[0].label} changes nothing at position {where}"
