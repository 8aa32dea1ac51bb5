"""What the score follows over a grid of factors of the mean and of the deviation from it: dispersion or variance."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import joined
from sinkorigin.statistics.effects import IDENTITY, Effect, ends_among, estimated, groups
from sinkorigin.statistics.kendall import kendall_tau_b
from sinkorigin.statistics.shared_columns import among_all, estimate

SCHEMA = tables.schema(
    **{name: column for name, column in IDENTITY.items() if name not in ("strength", "mean_factor")},
    points=(pa.int32(), "number of points (alpha, lambda) of the grid"),
    **estimate("dispersion_tau", "Kendall's tau-b of the mean score against lambda / alpha, over the points"),
    **estimate("variance_tau", "that tau-b against lambda, whose square the variance is proportional to"),
    **estimate("difference", "dispersion_tau - variance_tau"),
    **among_all("difference"),
    grids=(pa.int32(), "number of grids that these intervals hold for together (Bonferroni)"),
)


def rows(edits: Sequence[Effect], replicates: int) -> Iterator[dict]:
    """Rows of ``SCHEMA`` without model and prompts: one a grid and target.

    Args:
        replicates: bootstrap replicates of each grid.
    """
    found = groups([edit for edit in edits if edit.kind.takes("mean_factor")], without=("strength", "mean_factor"))
    for identity, members in found:
        values = np.stack([edit.seen["score"] for edit in members], axis=-1)  # (N, points)
        resampling = joined([edit.resampling for edit in members]).times(replicates)
        samples = resampling.weights(len(values)) @ values
        deviation = np.array([edit["strength"] for edit in members])
        with np.errstate(divide="ignore"):
            ratio = deviation / np.array([edit["mean_factor"] for edit in members])
        mean = values.mean(axis=0)
        (dispersion, dispersions), (variance, variances) = (
            (kendall_tau_b(mean, against), kendall_tau_b(samples, against)) for against in (ratio, deviation)
        )
        yield {
            **identity,
            "points": len(members),
            "grids": len(found),
            **estimated("dispersion_tau", dispersion, dispersions, resampling),
            **estimated("variance_tau", variance, variances, resampling),
            **estimated("difference", dispersion - variance, dispersions - variances, resampling),
            **ends_among(len(found), "difference", dispersions - variances, resampling),
        }
