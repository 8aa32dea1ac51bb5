"""What the score follows over a grid of factors of the mean and of the deviation from it: dispersion or variance."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import resamples
from sinkorigin.statistics.effects import HIGH_ALL, IDENTITY, LOW_ALL, Effect, ends, ends_among, groups
from sinkorigin.statistics.kendall import kendall_tau_b

SCHEMA = tables.schema(
    **{name: column for name, column in IDENTITY.items() if name not in ("strength", "mean_factor")},
    points=(pa.int32(), "number of points (alpha, lambda) of the grid"),
    dispersion_tau=(pa.float64(), "Kendall's tau-b of the mean score against lambda / alpha, over the points"),
    dispersion_tau_low=shared_columns.LOW,
    dispersion_tau_high=shared_columns.HIGH,
    variance_tau=(pa.float64(), "that tau-b against lambda, whose square the variance is proportional to"),
    variance_tau_low=shared_columns.LOW,
    variance_tau_high=shared_columns.HIGH,
    difference=(pa.float64(), "dispersion_tau - variance_tau"),
    difference_low=shared_columns.LOW,
    difference_high=shared_columns.HIGH,
    difference_low_all=LOW_ALL,
    difference_high_all=HIGH_ALL,
    grids=(pa.int32(), "number of grids that these intervals hold for together (Bonferroni)"),
)


def rows(edits: Sequence[Effect], replicates: int, seed: int) -> Iterator[dict]:
    """Rows of ``SCHEMA`` without model and prompts: one a grid and target."""
    found = groups([edit for edit in edits if edit.kind.takes("mean_factor")], without=("strength", "mean_factor"))
    for identity, members in found:
        values = np.stack([edit.seen["score"] for edit in members], axis=-1)  # (N, points)
        samples = resamples(len(values), replicates, seed) @ values
        deviation = np.array([edit["strength"] for edit in members])
        with np.errstate(divide="ignore"):
            ratio = deviation / np.array([edit["mean_factor"] for edit in members])
        taus = {
            name: (kendall_tau_b(values.mean(axis=0), against), kendall_tau_b(samples, against))
            for name, against in (("dispersion_tau", ratio), ("variance_tau", deviation))
        }
        (dispersion, dispersion_drawn), (variance, variance_drawn) = taus.values()
        taus["difference"] = dispersion - variance, dispersion_drawn - variance_drawn
        row = {**identity, "points": len(members), "grids": len(found)}
        for name, (value, drawn) in taus.items():
            row |= {name: float(value), **ends(name, drawn)}
        yield row | ends_among(len(found), "difference", taus["difference"][1])
