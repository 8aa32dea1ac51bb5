"""Change points of a curve over layers: all its rises and falls, found by one rule."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.shared_columns import KEYS

SCHEMA = tables.schema(
    **KEYS,
    quantity=(pa.string(), "the curve"),
    scale=(pa.string(), "what change is: a difference, or a factor"),
    threshold=(pa.float64(), "smallest change that counts, and smallest reversal that ends a rise or a fall"),
    kind=(pa.string(), "rise or fall"),
    start=(pa.int32(), "layer where the rise or fall begins: the curve's last extreme before it"),
    layer=(pa.int32(), "the change point: the layer that the largest single step of it leads to"),
    end=(pa.int32(), "layer where it ends: the next extreme"),
    before=(pa.float64(), "the curve at start"),
    after=(pa.float64(), "the curve at end"),
    change=(pa.float64(), "after − before, or after / before"),
    change_low=(pa.float64(), "lower end of its 95 % bootstrap interval, between the same layers"),
    change_high=(pa.float64(), "upper end of it"),
)


def turning_points(values: Sequence[float] | np.ndarray, threshold: float) -> list[int]:
    """Indices of the extremes between which a curve changes by at least ``threshold``: first, turns, last.

    A rise lasts until the curve falls by ``threshold`` from its highest point so far, and the other way round, so that
    wiggles smaller than ``threshold`` neither end nor make one. Empty where the whole curve stays within it.
    """
    low = high = 0
    direction = 0
    points: list[int] = []
    for i, value in enumerate(values):
        if direction >= 0 and value > values[high]:
            high = i
        if direction <= 0 and value < values[low]:
            low = i
        if direction >= 0 and values[high] - value >= threshold:
            points.append(high)
            direction, low = -1, i
        elif direction <= 0 and value - values[low] >= threshold:
            points.append(low)
            direction, high = 1, i
    if direction:
        points.append(high if direction > 0 else low)
    return points


def change_table(
    values: np.ndarray,
    samples: np.ndarray,
    layers: Sequence[int],
    threshold: float,
    resampling: Resampling,
    *,
    factor: bool,
    **names: str,
) -> pa.Table:
    """Every rise and fall of a curve over layers.

    Args:
        values: (L,) the curve.
        samples: (R, L) its bootstrap replicates.
        layers: (L,) the layers' numbers, rising.
        threshold: smallest change that counts: a difference, or, with ``factor``, a ratio above 1.
        resampling: of the replicates.
        factor: whether to measure the curve, which is then positive, on a logarithmic scale.
        names: model, prompts and quantity, for the first columns.

    Returns:
        A table of ``SCHEMA``, in the order of the layers; no rows where nothing changes by the threshold.
    """

    def scaled(curve):
        return np.log(curve) if factor else np.asarray(curve, dtype=np.float64)

    curve, replicates = scaled(values), scaled(samples)
    points = turning_points(curve, np.log(threshold) if factor else threshold)
    rows = []
    for start, end in pairwise(points):
        steps = np.diff(curve[start : end + 1]) * np.sign(curve[end] - curve[start])
        change = np.concatenate([[curve[end] - curve[start]], replicates[:, end] - replicates[:, start]])
        change = np.exp(change) if factor else change
        low, high = resampling.interval(change[1:])
        rows.append(
            {
                **names,
                "scale": "factor" if factor else "difference",
                "threshold": threshold,
                "kind": "rise" if curve[end] > curve[start] else "fall",
                "start": int(layers[start]),
                "layer": int(layers[start + 1 + int(steps.argmax())]),
                "end": int(layers[end]),
                "before": float(values[start]),
                "after": float(values[end]),
                "change": float(change[0]),
                "change_low": float(low),
                "change_high": float(high),
            }
        )
    return from_rows(SCHEMA, rows)
