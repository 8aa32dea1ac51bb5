"""Folders of intervention tables with made-up scores, as a sweep writes them."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.interventions import resolution
from sinkorigin.interventions.schemas import SCHEMAS


def write(folder, points, *, length, losses=False) -> Path:
    """One folder of tables.

    Args:
        points: mappings with kind, target and score (N, L, H), and optionally intervention, strength, mean_factor, site,
            layers and positions (lists), first (N, L, H), unit (N,), and change (N,) of the loss.
    """
    folder = Path(folder)
    parts = {name: [] for name in SCHEMAS if name != "losses" or losses}
    for point in points:
        score = np.asarray(point["score"])
        first = np.asarray(point.get("first", np.full(score.shape, 0.5)))
        sequences, layers = score.shape[:2]
        identity = {
            "intervention": point.get("intervention", point["kind"]), "kind": point["kind"],
            "strength": point.get("strength", None if point["kind"] == "baseline" else 1.0),
            "mean_factor": point.get("mean_factor"), "site": point.get("site", "value_aggregation"),
        }  # fmt: skip
        lists = {"layers": point.get("layers", [0, 1]), "positions": point.get("positions", [point["target"]])}
        n, layer, head = np.meshgrid(*map(np.arange, score.shape), indexing="ij")
        parts["scores"].append(
            {"target": point["target"], "sequence": n.ravel(), "unit": np.asarray(point.get("unit", np.arange(sequences)))[n.ravel()],
             "layer": layer.ravel(), "head": head.ravel(),
             "score": score.ravel(), "first_score": first.ravel(), **identity, **lists}
        )  # fmt: skip
        n, layer = np.meshgrid(np.arange(sequences), np.arange(layers), indexing="ij")
        parts["residuals"].append(
            {"target": point["target"], "sequence": n.ravel(), "layer": layer.ravel(), "norm": 1.0 + layer.ravel(),
             "dominance_ratio": 2.0 + layer.ravel(), "key_cosine": 0.1 * layer.ravel(), **identity, **lists}
        )  # fmt: skip
        layer, position = np.meshgrid(np.arange(layers), np.arange(length), indexing="ij")
        column = np.where(position == point["target"], score.mean(axis=(0, 2))[layer], 0.01 + 0.001 * position)
        column = np.where(position == 0, first.mean(axis=(0, 2))[layer], column)
        parts["positions"].append(
            {"layer": layer.ravel(), "position": position.ravel(), "score": column.ravel(), **identity, **lists}
        )
        if losses:
            change = np.asarray(point.get("change", np.zeros(sequences)))
            parts["losses"].append(
                {"target": point["target"], "sequence": np.arange(sequences), "loss": 3 + change,
                 "baseline_loss": np.full(sequences, 3.0), "divergence": np.abs(change), **identity, **lists}
            )  # fmt: skip
    for name, rows in parts.items():
        frames = []
        for row in rows:
            lists = {key: row.pop(key) for key in ("layers", "positions")}
            frames.append(pl.DataFrame(row).with_columns(pl.lit(value).alias(key) for key, value in lists.items()))
        frame = pl.concat(frames, how="vertical_relaxed").select(SCHEMAS[name].names)
        tables.write_table(folder / f"{name}.parquet", frame.to_arrow(), SCHEMAS[name])
    tables.write_manifest(folder)
    return folder


def resolved(edits, *, model="m", prompts="p", rules=None, facts=None):
    """The table that says what interventions are, name → strength → its points.

    Args:
        rules: name → rule of its layers, where these are not numbers.
        facts: name → other columns.
    """
    rows = []
    for name, strengths in edits.items():
        points = next(iter(strengths.values()))
        row = {
            "kind": points[0]["kind"],
            "to": None,
            "calibration": 0,
            "layers_rule": (rules or {}).get(name, "numbers"),
        }
        row |= {
            "layers": points[0].get("layers", [0, 1]),
            "how": "numbers of the config",
            "applicable": True,
            "reason": None,
        }
        row |= {"positions": [list(point.get("positions", [point["target"]])) for point in points]}
        rows.append({"model": model, "prompts": prompts, "intervention": name, **row, **(facts or {}).get(name, {})})
    return pa.Table.from_pylist(rows, schema=resolution.SCHEMA)


def write_study(root, baseline, edits, *, length, losses=False, **resolving) -> dict[str, str]:
    """Folders of a baseline and of interventions, name → strength → its points; the files that a statistic reads."""
    write(root / "baseline", baseline, length=length, losses=losses)
    for name, strengths in edits.items():
        for strength, points in strengths.items():
            named = [{"intervention": name, "strength": strength, **point} for point in points]
            write(root / "edited" / name / f"strength={strength:g}", named, length=length, losses=losses)
    tables.write_table(root / "resolved.parquet", resolved(edits, **resolving), resolution.SCHEMA)
    return {
        "baseline": str(root / "baseline/manifest.json"), "edited": str(root / "edited/interventions.json"),
        "resolved": str(root / "resolved.parquet"),
    }  # fmt: skip
