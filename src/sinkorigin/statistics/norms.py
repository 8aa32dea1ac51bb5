"""V3, norm surge: the norm of the residual stream by layer and position, and where the first token's surges."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import change_points
from sinkorigin.statistics.bootstrap import Resampling, first_layer_above
from sinkorigin.statistics.grids import read_layers, to_table
from sinkorigin.statistics.shared_columns import KEYS, POSITION, SITE, SITE_KEYS, estimate, onset_columns

_SITE = "residual"

NORMS_SCHEMA = tables.schema(
    **SITE_KEYS, position=POSITION, **estimate("norm", "mean over sequences of the vector's Euclidean norm")
)

NORM_RATIO_SCHEMA = tables.schema(
    **SITE_KEYS,
    **estimate("first", "mean over sequences of the norm at position 0"),
    **estimate("rest", "mean over sequences and positions >= 1 of the norm; null where there are none"),
    **estimate("ratio", "first / rest"),
)

NORM_SURGE_SCHEMA = tables.schema(**KEYS, site=SITE, **onset_columns("ratio that a layer must pass", "ratio"))

TABLES = {
    "norms": NORMS_SCHEMA,
    "norm_ratio": NORM_RATIO_SCHEMA,
    "norm_surge": NORM_SURGE_SCHEMA,
    "norm_changes": change_points.SCHEMA,
}


def compute(
    inputs: Mapping[str, str],
    *,
    model: str,
    prompts: str,
    surge_ratio: float,
    change_factor: float,
    resampling: Resampling,
) -> dict[str, pa.Table]:
    """V3 of the residual stream (docs/paper.md; "massive activations", Sun et al. 2024, §2, are what makes the surge).

    Args:
        inputs: path of ``magnitudes`` (site, layer, sequence, position, norm, ...).
        model, prompts: names, for the first columns.
        surge_ratio: the surge is in the first layer whose ratio (first token's mean norm / mean norm of the others)
            is above this.
        change_factor: the ratio's change points are where it rises or falls by this factor; a model can have several.
        resampling: how intervals resample the sequences.

    Returns:
        ``norms`` (L·T rows of ``NORMS_SCHEMA``), ``norm_ratio`` (L of ``NORM_RATIO_SCHEMA``), ``norm_surge`` (one of
        ``NORM_SURGE_SCHEMA``) and ``norm_changes`` (``change_points.SCHEMA``). Norms are in the unit of the residual
        stream.
    """
    study = {"model": model, "prompts": prompts}
    names = {**study, "site": _SITE}
    norms, layers, ratios = [], [], []
    for layer, points, columns in read_layers(
        inputs["magnitudes"], axes=("sequence", "position"), columns=("norm",), site=_SITE
    ):
        norm = columns["norm"]  # (N, T)
        means = resampling.means(norm)
        curve = resampling.with_interval("norm", means)  # of (1 + R, T)
        norms.append(to_table(NORMS_SCHEMA, **names, layer=layer, position=points["position"], **curve))
        layers.append(layer)
        first = means[:, 0]
        rest = means[:, 1:].mean(axis=1) if means.shape[1] > 1 else np.full_like(first, np.nan)
        ratios.append(np.stack([first, rest, first / rest]))  # (3, 1 + R)
    parts = dict(zip(("first", "rest", "ratio"), np.stack(ratios, axis=-1), strict=True))  # each (1 + R, L)
    intervals: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        intervals |= resampling.with_interval(name, part)
    ratio = parts["ratio"]
    surge, earliest, latest = first_layer_above(ratio[0], ratio[1:], np.array(layers), surge_ratio, resampling)
    onset = {"threshold": surge_ratio, "layer": [surge], "layer_low": earliest, "layer_high": latest}
    return {
        "norms": pa.concat_tables(norms),
        "norm_ratio": to_table(NORM_RATIO_SCHEMA, **names, layer=layers, **intervals),
        "norm_surge": to_table(NORM_SURGE_SCHEMA, **names, **onset),
        "norm_changes": change_points.change_table(
            ratio[0], ratio[1:], layers, change_factor, resampling, factor=True, quantity="norm ratio", **study
        ),
    }
