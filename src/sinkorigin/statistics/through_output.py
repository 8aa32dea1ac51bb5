"""V2: does W_O keep the variance discrepancy? The two readings of the paper's Kendall τ, side by side."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import interval, resamples
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.layered_table import LayeredTable
from sinkorigin.statistics.variance import Moments, SiteLayer, kendall_tau, layer_files, same_vectors

SCHEMA = tables.schema(
    **shared_columns.KEYS,
    layer=shared_columns.LAYER,
    dim_tau=(
        pa.float64(),
        "(a) Kendall's τ over dims c between the std over sequences of the value aggregation's dim c and the norm of "
        "W_O's column c; the variance is the mean over the shared positions",
    ),
    dim_tau_low=shared_columns.LOW,
    dim_tau_high=shared_columns.HIGH,
    position_tau=(
        pa.float64(),
        "(b) Kendall's τ over the shared positions between the variance of the value aggregation and that of the "
        "attention output",
    ),
    position_tau_low=shared_columns.LOW,
    position_tau_high=shared_columns.HIGH,
    positions=(pa.int32(), "number of positions of which both sites were kept"),
    ratio_before=(pa.float64(), "variance of the value aggregation at position 0 / mean at the other shared positions"),
    ratio_after=(pa.float64(), "the same of the attention output"),
    not_applicable=shared_columns.NOT_APPLICABLE,
)


def kendall_between(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Kendall's τ-a of each row of two (R, n) arrays, for few n: (agreeing − disagreeing pairs) / all pairs.

    Returns:
        (R,) in −1 … 1, NaN for n < 2. Memory is that of R·n² numbers.
    """
    signs = (np.sign(values[:, :, None] - values[:, None, :]) for values in (left, right))
    agreement = np.prod(list(signs), axis=0).sum(axis=(1, 2))  # every pair twice
    pairs = left.shape[1] * (left.shape[1] - 1)
    return agreement / pairs if pairs else np.full(len(left), np.nan)


def _moments(site: SiteLayer, wanted: np.ndarray, draws: np.ndarray, *, by_dim: bool) -> Moments:
    """Moments at the wanted positions of one layer, for every set of weights."""
    chosen = np.isin(site.positions, wanted)
    moments = Moments(draws, by_dim=by_dim)
    missing = draws.shape[1]  # the other site may keep fewer sequences
    for block in site.blocks():
        moments.add(block[:missing, chosen])
        missing -= min(missing, len(block))
        if not missing:
            break
    return moments


def through_output_table(
    value_aggregation: str | Path,
    attention_output: str | Path,
    output_projection: str | Path,
    *,
    model: str,
    prompts: str,
    replicates: int,
    seed: int,
) -> pa.Table:
    """V2 by layer (arXiv 2605.06611 gives a mean τ of 0.32 without saying over which pairs).

    Args:
        value_aggregation, attention_output: directories of the two sites.
        output_projection: the weight table of W_O (``weights.OUTPUT_PROJECTION_SCHEMA``).
        model, prompts: names, for the first columns.
        replicates, seed: of the bootstrap over sequences.

    Returns:
        A table of ``SCHEMA``. Both readings use the positions that both sites have.
    """
    before, after = (
        dict(layer_files(tables.checked_directory(path))) for path in (value_aggregation, attention_output)
    )
    weights = LayeredTable(output_projection, ("dim", "norm", "not_applicable"))
    rows = []
    for layer, path in before.items():
        row: dict = dict.fromkeys(SCHEMA.names) | {"model": model, "prompts": prompts, "layer": layer}
        rows.append(row)
        own = weights.rows(layer)
        column = own["norm"][np.argsort(own["dim"], kind="stable")]  # (d,); one NaN where there is no W_O
        reasons = list(own["not_applicable"][:1])
        if layer not in after:
            row["not_applicable"] = "what the attention adds to the residual stream cannot be seen in this layer"
            continue
        inner, outer = SiteLayer(path), SiteLayer(after[layer])
        shared = np.intersect1d(inner.positions, outer.positions)
        sequences = min(inner.sequences, outer.sequences)
        draws = np.concatenate([np.full((1, sequences), 1 / sequences), resamples(sequences, replicates, seed)])
        inside = _moments(inner, shared, draws, by_dim=True)
        outside = _moments(outer, shared, draws, by_dim=False)
        variances = inside.variance(), outside.variance()  # (1 + R, T')
        fixed = same_vectors(variances[0], inside, inner.width)
        taus = kendall_between(*(variance[:, ~fixed] for variance in variances))
        row["positions"] = int((~fixed).sum())
        row["position_tau"] = float(taus[0])
        row["position_tau_low"], row["position_tau_high"] = map(float, interval(taus[1:]))
        if not fixed.any() and shared[0] == 0 and len(shared) > 1:
            row["ratio_before"], row["ratio_after"] = (v[0, 0] / v[0, 1:].mean() for v in variances)
        else:
            reasons.append("position 0 has the same vector in every sequence, so it is left out")
        if len(column) == inner.width and not np.isnan(column).any():
            spread = inside.variance_by_dim(~fixed)  # (1 + R, d); its root has the same order
            taus = kendall_tau(spread[:, np.argsort(column)])  # over dims in the order of their column's norm
            row["dim_tau"] = float(taus[0])
            row["dim_tau_low"], row["dim_tau_high"] = map(float, interval(taus[1:]))
        row["not_applicable"] = "; ".join(reason for reason in reasons if reason) or None
    return from_rows(SCHEMA, rows)
