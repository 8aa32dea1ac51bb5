"""V3, norm surge: the norm of the residual stream by layer and position, and where the first token's surges."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import first_layer_above, interval, resamples
from sinkorigin.statistics.change_points import change_table
from sinkorigin.statistics.grids import read_layers, to_table

SITE = "residual"

_KEYS = {
    **shared_columns.KEYS,
    "site": shared_columns.SITE,
}

NORMS_SCHEMA = tables.schema(
    **_KEYS,
    layer=shared_columns.LAYER_OR_EMBEDDING,
    position=shared_columns.POSITION,
    norm=(pa.float64(), "mean over sequences of the vector's Euclidean norm"),
    norm_low=shared_columns.LOW,
    norm_high=shared_columns.HIGH,
)

NORM_RATIO_SCHEMA = tables.schema(
    **_KEYS,
    layer=shared_columns.LAYER_OR_EMBEDDING,
    first=(pa.float64(), "mean over sequences of the norm at position 0"),
    first_low=shared_columns.LOW,
    first_high=shared_columns.HIGH,
    rest=(pa.float64(), "mean over sequences and positions >= 1 of the norm; null where there are none"),
    rest_low=shared_columns.LOW,
    rest_high=shared_columns.HIGH,
    ratio=(pa.float64(), "first / rest"),
    ratio_low=shared_columns.LOW,
    ratio_high=shared_columns.HIGH,
)

NORM_SURGE_SCHEMA = tables.schema(
    **_KEYS,
    threshold=(pa.float64(), "ratio that a layer must pass"),
    layer=(pa.int32(), "first layer whose ratio is above the threshold; null if none"),
    layer_low=(pa.int32(), "2.5th percentile over bootstrap replicates; none counts as the number of layers"),
    layer_high=(pa.int32(), "97.5th percentile over bootstrap replicates; none counts as the number of layers"),
)


def norm_tables(
    magnitudes: str | Path,
    *,
    model: str,
    prompts: str,
    surge_ratio: float,
    change_factor: float,
    replicates: int,
    seed: int,
) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """V3 of the residual stream (docs/paper.md; "massive activations", Sun et al. 2024, §2, are what makes the surge).

    Args:
        magnitudes: the table of (site, layer, sequence, position, norm, ...).
        model, prompts: names, for the first columns.
        surge_ratio: the surge is in the first layer whose ratio (first token's mean norm / mean norm of the others)
            is above this.
        change_factor: the ratio's change points are where it rises or falls by this factor; a model can have several.
        replicates, seed: of the bootstrap over sequences.

    Returns:
        Tables of ``NORMS_SCHEMA`` (L·T rows), ``NORM_RATIO_SCHEMA`` (L rows), ``NORM_SURGE_SCHEMA`` (1 row) and
        ``change_points.SCHEMA``. Norms are in the unit of the residual stream.
    """
    names = {"model": model, "prompts": prompts, "site": SITE}
    norms, layers, ratios = [], [], []
    for layer, points, columns in read_layers(magnitudes, axes=("sequence", "position"), columns=("norm",), site=SITE):
        norm = columns["norm"]  # (N, T)
        weights = resamples(len(norm), replicates, seed)  # (R, N)
        means = np.concatenate([norm.mean(axis=0, keepdims=True), weights @ norm])  # (1 + R, T)
        low, high = interval(means[1:])
        norms.append(
            to_table(
                NORMS_SCHEMA,
                **names,
                layer=layer,
                position=points["position"],
                norm=means[0],
                norm_low=low,
                norm_high=high,
            )
        )
        layers.append(layer)
        first = means[:, 0]
        rest = means[:, 1:].mean(axis=1) if means.shape[1] > 1 else np.full_like(first, np.nan)
        ratios.append(np.stack([first, rest, first / rest]))  # (3, 1 + R)
    parts = np.stack(ratios, axis=-1)  # (3, 1 + R, L)
    columns = {}
    for name, part in zip(("first", "rest", "ratio"), parts, strict=True):
        columns[name] = part[0]
        columns[f"{name}_low"], columns[f"{name}_high"] = interval(part[1:])
    ratio = parts[2]
    onset, earliest, latest = first_layer_above(ratio[0], ratio[1:], np.array(layers), surge_ratio)
    surge = {"threshold": surge_ratio, "layer": [onset], "layer_low": earliest, "layer_high": latest}
    return (
        pa.concat_tables(norms),
        to_table(NORM_RATIO_SCHEMA, **names, layer=layers, **columns),
        to_table(NORM_SURGE_SCHEMA, **names, **surge),
        change_table(
            ratio[0], ratio[1:], layers, change_factor, factor=True, model=model, prompts=prompts, quantity="norm ratio"
        ),
    )
