"""V1, variance by position: how much a site's vector differs between sequences, at each layer and position.

In a causal transformer o_0 = v_0 is one value vector and o_i a convex combination of i + 1 of them, so the variance of
the value aggregation should be highest at position 0 and fall with position (arXiv 2605.06611, "variance discrepancy").
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.bootstrap import Resampling, simultaneous_widths
from sinkorigin.statistics.grids import to_table
from sinkorigin.statistics.kendall import kendall_tau, order_interval
from sinkorigin.statistics.moments import ReplicatedMoments
from sinkorigin.statistics.shared_columns import NOT_APPLICABLE, POSITION, SITE_KEYS, estimate, order_columns
from sinkorigin.statistics.site_layers import SiteLayer, layer_files

VARIANCE_SCHEMA = tables.schema(
    **SITE_KEYS,
    position=POSITION,
    sequences=(pa.int32(), "number of sequences N"),
    width=(pa.int32(), "number of dims d"),
    **estimate("variance", "mean over dims of the unbiased variance over sequences; null where all have one vector"),
    relative_dispersion=(pa.float64(), "variance summed over dims / squared norm of the mean vector; null as variance"),
)


def _held_together(name: str, description: str, how: str) -> dict[str, tuple[pa.DataType, str]]:
    """Columns of a ratio whose interval is one on a logarithmic scale."""
    return {
        name: (pa.float64(), description),
        f"{name}_low": (pa.float64(), f"lower end of its interval, which holds {how}"),
        f"{name}_high": (pa.float64(), "upper end of it"),
    }


TREND_SCHEMA = tables.schema(
    **SITE_KEYS,
    sequences=(pa.int32(), "number of sequences N"),
    **estimate("ratio", "variance at position 0 / mean of the variance at later positions; null where undefined"),
    **_held_together(
        "ratio_to_highest",
        "variance at position 0 / highest variance of a later position; null where undefined",
        "for all later positions together (max-T, 95 %)",
    ),
    **order_columns("kendall_tau", "Kendall's tau-a of variance against position; -1 is a strictly falling curve"),
    **_held_together(
        "largest_rise",
        "largest ratio of the mean variance of a group of positions (0, 1, 2-3, 4-7, ...) to that of an earlier group; below 1 where "
        "the curve falls throughout",
        "for all pairs of groups together (max-T, 95 %)",
    ),
    **_held_together(
        "last_to_second",
        "mean variance of the last of these groups / variance at position 1: below 1 where the curve goes on falling after position 0",
        "with 95 % (standard error over bootstrap replicates of sequences, Student's quantile)",
    ),
    not_applicable=NOT_APPLICABLE,
)

TABLES = {"variance": VARIANCE_SCHEMA, "variance_trend": TREND_SCHEMA}

_SAME = "a position has the same vector in every sequence, so it has no variance to compare"
_NO_SITE = "the model has no such site, see architecture.parquet of its activations"


def compute(
    inputs: Mapping[str, Sequence[str]], *, model: str, prompts: str, sites: Sequence[str], resampling: Resampling
) -> dict[str, pa.Table]:
    """V1 of several sites (docs/paper.md).

    Args:
        inputs: paths of ``sites``, the manifests of the sites' directories.
        model, prompts: names, for the first columns.
        sites: names of the sites, in the order of their manifests.
        resampling: how intervals resample the sequences.

    Returns:
        ``variance`` (``VARIANCE_SCHEMA``) and ``variance_trend`` (``TREND_SCHEMA``).
    """
    found = [
        variance_tables(Path(manifest).parent, model=model, prompts=prompts, site=site, resampling=resampling)
        for site, manifest in zip(sites, inputs["sites"], strict=True)
    ]
    variances, trends = zip(*found, strict=True)
    return {"variance": pa.concat_tables(variances), "variance_trend": pa.concat_tables(trends)}


def variance_tables(
    site_directory: str | Path, *, model: str, prompts: str, site: str, resampling: Resampling
) -> tuple[pa.Table, pa.Table]:
    """V1 of one site: the variance by (layer, position), and its trend by layer.

    The site's files are streamed; memory is that of :class:`ReplicatedMoments` and a block of sequences.

    Args:
        site_directory: ``.../{site}``, with ``layer={layer}/part-0.parquet`` (sequence, position, activation).
        model, prompts, site: names, for the first columns and for messages.
        resampling: how intervals resample the sequences. In a replicate, with weights w that
            add to 1, the variance is N/(N−1) · (Σ w ‖x‖² − ‖Σ w x‖²) / d.

    Returns:
        Tables of ``VARIANCE_SCHEMA`` and ``TREND_SCHEMA``. The trend is null in layers where a position has the same
        vector in every sequence (with one first token for all, for example, there is no variance to compare).

    Raises:
        SinkoriginError: fewer than two sequences, an activation that is not finite, or a damaged directory.
    """
    site_directory = tables.checked_directory(site_directory)
    names = {"model": model, "prompts": prompts, "site": site}
    variances, trends = [], []
    for layer, path in layer_files(site_directory):
        file = SiteLayer(path)
        positions, sequences, width = file.positions, file.sequences, file.width
        if sequences < 2:
            raise SinkoriginError(
                f"model {model}, prompts {prompts}: a variance over sequences needs at least 2, {site} has "
                f"{sequences}; raise the number of sequences of the prompts or of those that the site keeps"
            )
        drawn = resampling.first(sequences)  # the site may keep fewer than were run
        moments = ReplicatedMoments(drawn.weights_with_data(sequences))
        for block in file.blocks():
            moments.add(block)
        if not moments.is_finite():
            raise SinkoriginError(
                f"model {model}: {site} of layer {layer} is not finite; use dtype: float32, or another model"
            )
        replicated = moments.variance()  # (1 + R, T)
        replicated[:, moments.same_vectors(replicated)] = np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            dispersion = replicated[0] * width / moments.squared_mean()  # the variance summed over dims / ‖mean‖²
        variances.append(
            to_table(
                VARIANCE_SCHEMA,
                **names,
                layer=layer,
                position=positions,
                sequences=sequences,
                width=width,
                **drawn.with_interval("variance", replicated),
                relative_dispersion=dispersion,
            )
        )
        ratios = [first_to_rest(part, positions) for part in (replicated[0], replicated[1:])]
        trend: dict = drawn.with_interval("ratio", np.append(*ratios))
        tau, low, high = order_interval(kendall_tau(replicated)[None], drawn)
        trend |= {"kendall_tau": tau, "kendall_tau_low": low, "kendall_tau_high": high}
        for name, ratio in RATIOS.items():
            ends = ratio(replicated, positions, drawn, sequences)
            trend |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        reason = _SAME if np.isnan(replicated).any() else None
        trends.append(
            to_table(TREND_SCHEMA, **names, layer=[layer], sequences=sequences, **trend, not_applicable=reason)
        )
    if not variances:
        nothing: dict = dict.fromkeys(TREND_SCHEMA.names[3:])
        trends.append(to_table(TREND_SCHEMA, **names, **(nothing | {"layer": [None], "not_applicable": _NO_SITE})))
    variance = pa.concat_tables(variances) if variances else VARIANCE_SCHEMA.empty_table()
    return variance, pa.concat_tables(trends)


def first_to_rest(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Value at position 0 / mean of the values at the others, for (..., T) values; NaN where one of these is missing."""
    first, rest = values[..., positions == 0], values[..., positions > 0]
    if not first.shape[-1] or not rest.shape[-1]:
        return np.full(values.shape[:-1], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return first[..., 0] / rest.mean(axis=-1)


def first_to_highest(
    replicated: np.ndarray, positions: np.ndarray, resampling: Resampling, sequences: int
) -> np.ndarray:
    """Value at position 0 / largest value at another position.

    The largest of many noisy values is too large, and so are its bootstrap replicates, which would put the whole interval below the true
    ratio. The interval is therefore that of the smallest ratio by intervals that hold for all positions together.

    Args:
        replicated: (1 + R, T) positive values of the curve, and of its bootstrap replicates.
        positions: (T,) rising.
        resampling: of the replicates.
        sequences: N.

    Returns:
        (3,) the ratio, low and high; NaN where a value is NaN, or position 0 or all others are missing; low and high without replicates.
    """
    first, rest = replicated[:, positions == 0], replicated[:, positions > 0]
    if not first.shape[1] or not rest.shape[1] or np.isnan(replicated).any():
        return np.full(3, np.nan)
    ratios = np.log(first) - np.log(rest)  # (1 + R, T - 1)
    width = simultaneous_widths(ratios, resampling, sequences)
    return np.exp([part.min() for part in (ratios[0], ratios[0] - width, ratios[0] + width)])


def position_groups(positions: np.ndarray) -> list[np.ndarray]:
    """Positions in groups of doubling size, 0, 1, 2-3, 4-7, …: for each group the (T,) mask of its members."""
    groups = np.floor(np.log2(np.maximum(positions, 0.5))).astype(int)  # 0 → −1, 1 → 0, 2-3 → 1, 4-7 → 2
    return [groups == group for group in np.unique(groups)]


def group_means(values: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(R, G) means of (R, T) values over the groups of :func:`position_groups`."""
    return np.stack([values[:, mask].mean(axis=1) for mask in position_groups(positions)], axis=1)


def largest_rise(replicated: np.ndarray, positions: np.ndarray, resampling: Resampling, sequences: int) -> np.ndarray:
    """Largest ratio of a later part of a curve to an earlier one: what contradicts that the curve falls.

    Neighbouring positions differ by less than their sampling error, so a falling curve has rises everywhere; means over groups of
    doubling size can be told apart. The largest of many noisy ratios is too large, and so are its bootstrap replicates; the
    interval is therefore that of the largest true ratio by intervals that hold for all pairs of groups together.

    Args:
        replicated: (1 + R, T) positive values of the curve, and of its bootstrap replicates.
        positions: (T,) rising.
        resampling: of the replicates.
        sequences: N.

    Returns:
        (3,) the ratio, low and high; NaN where a value is NaN or there is one group only.
    """
    if len(position_groups(positions)) < 2 or np.isnan(replicated).any():
        return np.full(3, np.nan)
    means = np.log(group_means(replicated, positions))  # (1 + R, G)
    earlier, later = np.triu_indices(means.shape[1], 1)
    rises = means[:, later] - means[:, earlier]  # (1 + R, pairs)
    width = simultaneous_widths(rises, resampling, sequences)
    return np.exp([part.max() for part in (rises[0], rises[0] - width, rises[0] + width)])


def last_to_second(replicated: np.ndarray, positions: np.ndarray, resampling: Resampling, sequences: int) -> np.ndarray:
    """Mean value of the last group of positions / that of the first group after position 0: does the curve go on falling?

    Args:
        replicated: (1 + R, T) positive values of the curve, and of its bootstrap replicates.
        positions: (T,) rising.
        resampling: of the replicates.
        sequences: N.

    Returns:
        (3,) the ratio, low and high; NaN where a value is NaN or there are fewer than two groups after position 0.
    """
    after = positions > 0
    if np.isnan(replicated).any() or len(position_groups(positions[after])) < 2:
        return np.full(3, np.nan)
    means = np.log(group_means(replicated[:, after], positions[after]))
    fall = means[:, -1:] - means[:, :1]
    [width] = simultaneous_widths(fall, resampling, sequences)
    return np.exp([fall[0, 0], fall[0, 0] - width, fall[0, 0] + width])


RATIOS = {"ratio_to_highest": first_to_highest, "largest_rise": largest_rise, "last_to_second": last_to_second}
