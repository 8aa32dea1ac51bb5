"""V2: whether W_O keeps the variance discrepancy, by two readings of the paper's Kendall τ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import LayeredTable, from_rows
from sinkorigin.statistics.kendall import kendall_between, kendall_tau
from sinkorigin.statistics.moments import ReplicatedMoments
from sinkorigin.statistics.shared_columns import KEYS, LAYER_KEYS, NOT_APPLICABLE, estimate
from sinkorigin.statistics.site_layers import SiteLayer, layer_files

SCHEMA = tables.schema(
    **LAYER_KEYS,
    **estimate(
        "dim_tau",
        "(a) Kendall's τ over dims c between the std over sequences of the value aggregation's dim c and the norm of "
        "W_O's column c; the variance is the mean over the shared positions",
    ),
    **estimate(
        "position_tau",
        "(b) Kendall's τ over the shared positions between the variance of the value aggregation and that of the "
        "attention output",
    ),
    positions=(pa.int32(), "number of positions of which both sites were kept"),
    ratio_before=(pa.float64(), "variance of the value aggregation at position 0 / mean at the other shared positions"),
    ratio_after=(pa.float64(), "the same of the attention output"),
    not_applicable=NOT_APPLICABLE,
)

MEAN_SCHEMA = tables.schema(
    **KEYS,
    reading=(pa.string(), "dim_tau or position_tau: which of the two readings of the paper's τ"),
    layers=(pa.int32(), "number of layers that have it"),
    **estimate("tau", "its mean over these layers"),
    not_applicable=NOT_APPLICABLE,
)

TABLES = {"variance_through_output": SCHEMA, "variance_through_output_mean": MEAN_SCHEMA}


def _moments(site: SiteLayer, wanted: np.ndarray, draws: np.ndarray, *, by_dim: bool) -> ReplicatedMoments:
    """Moments at the wanted positions of one layer, for every set of weights."""
    chosen = np.isin(site.positions, wanted)
    moments = ReplicatedMoments(draws, by_dim=by_dim)
    missing = draws.shape[1]  # the other site may keep fewer sequences
    for block in site.blocks():
        moments.add(block[:missing, chosen])
        missing -= min(missing, len(block))
        if not missing:
            break
    return moments


def compute(inputs: Mapping[str, str], *, model: str, prompts: str, resampling: Resampling) -> dict[str, pa.Table]:
    """V2 by layer (arXiv 2605.06611 gives a mean τ of 0.32 without saying over which pairs; docs/paper.md).

    Args:
        inputs: paths of ``value_aggregation`` and ``attention_output``, the manifests of the two sites' directories, and
            of ``output_projection``, the weight table of W_O (``weights.OUTPUT_PROJECTION_SCHEMA``).
        model, prompts: names, for the first columns.
        resampling: how intervals resample the sequences.

    Returns:
        ``variance_through_output`` (``SCHEMA``) and ``variance_through_output_mean`` (``MEAN_SCHEMA``, whose interval is that of the
        mean, from replicates that all layers share). Both readings use the positions that both sites have.
    """
    before, after = (
        dict(layer_files(tables.checked_directory(Path(inputs[site]).parent)))
        for site in ("value_aggregation", "attention_output")
    )
    weights = LayeredTable(inputs["output_projection"], ("dim", "norm", "not_applicable"))
    rows = []
    replicated: dict[str, list[np.ndarray]] = {"dim_tau": [], "position_tau": []}  # (1 + R,) by layer
    drawn = resampling
    for layer, path in before.items():
        row: dict = dict.fromkeys(SCHEMA.names) | {"model": model, "prompts": prompts, "layer": layer}
        rows.append(row)
        projection = weights.rows(layer)
        norms = projection["norm"][np.argsort(projection["dim"], kind="stable")]  # (d,); one NaN where there is no W_O
        reasons = list(projection["not_applicable"][:1])
        if layer not in after:
            row["not_applicable"] = "what the attention adds to the residual stream cannot be seen in this layer"
            continue
        inner, outer = SiteLayer(path), SiteLayer(after[layer])
        shared = np.intersect1d(inner.positions, outer.positions)
        sequences = min(inner.sequences, outer.sequences)
        drawn = resampling.first(sequences)  # a site may keep fewer than were run
        draws = drawn.weights_with_data(sequences)
        inside = _moments(inner, shared, draws, by_dim=True)
        outside = _moments(outer, shared, draws, by_dim=False)
        variances = inside.variance(), outside.variance()  # (1 + R, T')
        fixed = inside.same_vectors(variances[0])
        taus = kendall_between(*(variance[:, ~fixed] for variance in variances))
        row["positions"] = int((~fixed).sum())
        row |= drawn.with_interval("position_tau", taus)
        replicated["position_tau"].append(taus)
        if not fixed.any() and shared[0] == 0 and len(shared) > 1:
            row["ratio_before"], row["ratio_after"] = (v[0, 0] / v[0, 1:].mean() for v in variances)
        else:
            reasons.append("position 0 has the same vector in every sequence, so it is left out")
        if len(norms) == inner.width and not np.isnan(norms).any():
            spread = inside.variance_by_dim(~fixed)  # (1 + R, d); its root has the same order
            taus = kendall_tau(spread[:, np.argsort(norms)])  # over dims in the order of the norms of their columns
            row |= drawn.with_interval("dim_tau", taus)
            replicated["dim_tau"].append(taus)
        row["not_applicable"] = "; ".join(reason for reason in reasons if reason) or None
    names = {"model": model, "prompts": prompts}
    means = [
        dict.fromkeys(MEAN_SCHEMA.names) | names | _mean(reading, samples, rows, drawn)
        for reading, samples in replicated.items()
    ]
    return {
        "variance_through_output": from_rows(SCHEMA, rows),
        "variance_through_output_mean": from_rows(MEAN_SCHEMA, means),
    }


def _mean(reading: str, samples: Sequence[np.ndarray], rows: Sequence[Mapping], resampling: Resampling) -> dict:
    """A row of ``MEAN_SCHEMA`` without model and prompts, from the (1 + R,) replicates of the layers that have one."""
    known = [values for values in samples if np.isfinite(values[0])]
    if not known:
        reason = next((row["not_applicable"] for row in rows if row["not_applicable"]), "no layer has both sites")
        return {"reading": reading, "layers": 0, "not_applicable": reason}
    return {"reading": reading, "layers": len(known)} | resampling.with_interval("tau", np.nanmean(known, axis=0))
