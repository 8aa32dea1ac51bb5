"""V2: whether W_O keeps the variance discrepancy, by two readings of the paper's Kendall τ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import Resampling, resamples
from sinkorigin.statistics.grids import LayeredTable, from_rows
from sinkorigin.statistics.kendall import kendall_between, kendall_tau, order_interval
from sinkorigin.statistics.moments import ReplicatedMoments
from sinkorigin.statistics.shared_columns import KEYS, LAYER_KEYS, NOT_APPLICABLE, order_columns
from sinkorigin.statistics.site_layers import SiteLayer, layer_files
from sinkorigin.statistics.variance import group_means, position_groups

SCHEMA = tables.schema(
    **LAYER_KEYS,
    **order_columns(
        "dim_tau",
        "(a) Kendall's τ over dims c between the std over sequences of the value aggregation's dim c and the norm of "
        "W_O's column c; the variance is the mean over the shared positions",
    ),
    **order_columns(
        "position_tau",
        "(b) Kendall's τ over the shared positions between the variance of the value aggregation and that of what "
        "leaves W_O",
    ),
    **order_columns(
        "group_tau",
        "(b) of the mean variances of groups of these positions (0, 1, 2-3, 4-7, ...), which sampling error changes less; the interval "
        "holds that of τ between halves of the sequences too, which sampling error that both sites share cannot raise",
    ),
    positions=(pa.int32(), "number of positions of which both sites were kept"),
    ratio_before=(pa.float64(), "variance of the value aggregation at position 0 / mean at the other shared positions"),
    ratio_after=(pa.float64(), "the same of what leaves W_O, before any norm behind it"),
    not_applicable=NOT_APPLICABLE,
)

MEAN_SCHEMA = tables.schema(
    **KEYS,
    reading=(pa.string(), "dim_tau, position_tau or group_tau: which reading of the paper's τ"),
    layers=(pa.int32(), "number of layers that have it"),
    **order_columns("tau", "its mean over these layers"),
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
        inputs: paths of ``value_aggregation`` and ``output_projection_output``, the manifests of the two sites' directories, and
            of ``output_projection``, the weight table of W_O (``weights.OUTPUT_PROJECTION_SCHEMA``).
        model, prompts: names, for the first columns.
        resampling: how intervals resample the sequences.

    Returns:
        ``variance_through_output`` (``SCHEMA``) and ``variance_through_output_mean`` (``MEAN_SCHEMA``, whose interval is that of the
        mean, from replicates that all layers share). All readings use the positions that both sites have.
    """
    before, after = (
        dict(layer_files(tables.checked_directory(Path(inputs[site]).parent)))
        for site in ("value_aggregation", "output_projection_output")
    )
    weights = LayeredTable(inputs["output_projection"], ("dim", "norm", "not_applicable"))
    rows = []
    group_orders: list[np.ndarray] = []  # (2, 1 + R) by layer
    replicated: dict[str, list[np.ndarray]] = {"dim_tau": [], "position_tau": []}  # (1 + R,) by layer
    drawn = resampling
    for layer, path in before.items():
        row: dict = dict.fromkeys(SCHEMA.names) | {"model": model, "prompts": prompts, "layer": layer}
        rows.append(row)
        projection = weights.rows(layer)
        norms = projection["norm"][np.argsort(projection["dim"], kind="stable")]  # (d,); one NaN where there is no W_O
        reasons = list(projection["not_applicable"][:1])
        if layer not in after:
            row["not_applicable"] = "what leaves W_O cannot be seen in this layer"
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
        row["positions"] = int((~fixed).sum())
        orders = _group_orders(inner, outer, shared, ~fixed, variances, drawn)
        row |= _ends("group_tau", orders, drawn)
        group_orders.append(orders)
        taus = kendall_between(*(variance[:, ~fixed] for variance in variances))
        row |= _ends("position_tau", taus[None], drawn)
        replicated["position_tau"].append(taus)
        if not fixed.any() and shared[0] == 0 and len(shared) > 1:
            row["ratio_before"], row["ratio_after"] = (v[0, 0] / v[0, 1:].mean() for v in variances)
        else:
            reasons.append("position 0 has the same vector in every sequence, so it is left out")
        if len(norms) == inner.width and not np.isnan(norms).any():
            spread = inside.variance_by_dim(~fixed)  # (1 + R, d); its root has the same order
            taus = kendall_tau(spread[:, np.argsort(norms)])  # over dims in the order of the norms of their columns
            row |= _ends("dim_tau", taus[None], drawn)
            replicated["dim_tau"].append(taus)
        row["not_applicable"] = "; ".join(reason for reason in reasons if reason) or None
    names = {"model": model, "prompts": prompts}
    means = [
        dict.fromkeys(MEAN_SCHEMA.names) | names | _mean(reading, samples, rows, drawn)
        for reading, samples in replicated.items()
    ]
    known = [orders for orders in group_orders if np.isfinite(orders[:, 0]).all()]
    groups: dict = {"reading": "group_tau", "layers": len(known)}
    groups |= _ends("tau", np.nanmean(known, axis=0), drawn) if known else {"not_applicable": _why(rows)}
    means.append(dict.fromkeys(MEAN_SCHEMA.names) | names | groups)
    return {
        "variance_through_output": from_rows(SCHEMA, rows),
        "variance_through_output_mean": from_rows(MEAN_SCHEMA, means),
    }


def _why(rows: Sequence[Mapping]) -> str:
    """Why no layer has a quantity."""
    return next((row["not_applicable"] for row in rows if row["not_applicable"]), "no layer has both sites")


def _mean(reading: str, samples: Sequence[np.ndarray], rows: Sequence[Mapping], resampling: Resampling) -> dict:
    """A row of ``MEAN_SCHEMA`` without model and prompts, from the (1 + R,) replicates of the layers that have one."""
    known = [values for values in samples if np.isfinite(values[0])]
    if not known:
        return {"reading": reading, "layers": 0, "not_applicable": _why(rows)}
    return {"reading": reading, "layers": len(known)} | _ends("tau", np.nanmean(known, axis=0)[None], resampling)


def _group_orders(
    inner: SiteLayer,
    outer: SiteLayer,
    shared: np.ndarray,
    varies: np.ndarray,
    variances: tuple[np.ndarray, np.ndarray],
    resampling: Resampling,
) -> np.ndarray:
    """(2, 1 + R) of :func:`group_order`, of one layer; NaN where there is one group only."""
    positions = shared[varies]
    replicates = len(variances[0]) - 1
    if len(position_groups(positions)) < 2:
        return np.full((2, 1 + replicates), np.nan)
    halves = half_weights(resampling, min(inner.sequences, outer.sequences))  # (2, 1 + R, N)
    split = [
        _moments(site, shared, np.concatenate(halves), by_dim=False)
        .variance()[:, varies]
        .reshape(*halves.shape[:2], -1)
        for site in (inner, outer)
    ]
    before, after = (np.stack([group_means(half, positions) for half in site]) for site in split)
    whole_before, whole_after = (group_means(variance[:, varies], positions) for variance in variances)
    return group_order(whole_before, whole_after, before, after)


def half_weights(resampling: Resampling, sequences: int) -> np.ndarray:
    """(2, 1 + R, N) weights of two halves of the sequences, by themselves and in bootstrap replicates.

    A half has every second cluster, which is every second sequence where these are independent. Without replicates (R = 0) where there are
    too few clusters.
    """
    members = resampling.members(sequences)
    replicates = 0 if resampling.too_few else resampling.replicates
    weights = np.zeros((2, 1 + replicates, sequences))
    for half, drawn in enumerate(weights):
        chosen = members % 2 == half
        _, clusters = np.unique(members[chosen], return_inverse=True)
        if len(clusters):
            drawn[0, chosen] = 1 / len(clusters)
            times = resamples(int(clusters.max()) + 1, replicates, resampling.seed + half)[:, clusters]
            drawn[1:, chosen] = times / times.sum(axis=1, keepdims=True)
    return weights


def group_order(
    whole_before: np.ndarray, whole_after: np.ndarray, halves_before: np.ndarray, halves_after: np.ndarray
) -> np.ndarray:
    """Kendall's τ over groups of positions between their variances before and after, from all sequences and from halves.

    The same sequences give the variances on both sides, so that their sampling error agrees: groups that do not differ at all are in one
    order on both sides. Between the variances before from one half of the sequences and those after from the other half that is not so,
    but differences smaller than the sampling error then count for nothing. The one τ errs towards 1, the other towards 0.

    Args:
        whole_before, whole_after: (1 + R, G) of all sequences, and of bootstrap replicates.
        halves_before, halves_after: (2, 1 + R, G) of either half.

    Returns:
        (2, 1 + R): τ of all sequences; and the mean of the two τ between halves.
    """
    crossed = (
        kendall_between(halves_before[0], halves_after[1]) + kendall_between(halves_before[1], halves_after[0])
    ) / 2
    return np.stack([kendall_between(whole_before, whole_after), crossed])


def _ends(name: str, orders: np.ndarray, resampling: Resampling) -> dict[str, float]:
    """Columns of :func:`order_interval`."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), order_interval(orders, resampling), strict=True))
