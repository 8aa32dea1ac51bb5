"""The score against the strength."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import joined
from sinkorigin.statistics.effects import IDENTITY, Effect, ends_among, estimated, groups
from sinkorigin.statistics.kendall import kendall_tau
from sinkorigin.statistics.shared_columns import among_all, estimate

SCHEMA = tables.schema(
    **{name: column for name, column in IDENTITY.items() if name != "strength"},
    strengths=(pa.list_(pa.float64()), "the strengths, 1 being the unedited model"),
    scores=(pa.list_(pa.float64()), "mean score at the target at each"),
    **estimate("kendall_tau", "Kendall's tau-a of the mean score against the strength; 1 is a strictly rising curve"),
    **among_all("kendall_tau"),
    curves=(pa.int32(), "number of curves that these intervals hold for together (Bonferroni)"),
    **estimate("best_strength", "strength of the highest mean score"),
    best_score=(pa.float64(), "the score there"),
    **estimate("last_step", "score at the largest strength - score at the one before"),
    **estimate("below_best", "best_score - score at the largest strength"),
)


def rows(edits: Sequence[Effect], replicates: int) -> Iterator[dict]:
    """Rows of ``SCHEMA`` without model and prompts, where there are two strengths besides the unedited model.

    Args:
        replicates: bootstrap replicates of each curve.
    """
    curves = []
    for identity, members in groups([edit for edit in edits if edit.kind.has_doses()], without=("strength",)):
        # strength 1 is the unedited model, unless the kind edits at every strength
        starts = members[0].kind.identity_at is not None
        curve = [(edit["strength"], edit.seen["score"]) for edit in members if not starts or edit["strength"] != 1]
        if len(curve) > 1:
            curve += [(1.0, members[0].unedited["score"])] if starts else []
            resampling = joined([edit.resampling for edit in members]).times(replicates)
            curves.append((identity, sorted(curve, key=lambda point: point[0]), resampling))
    for identity, curve, resampling in curves:
        strengths = np.array([strength for strength, _ in curve])
        values = np.stack([score for _, score in curve], axis=-1)  # (N, strengths)
        mean = values.mean(axis=0)
        samples = resampling.weights(len(values)) @ values  # (R, strengths)
        best = int(mean.argmax())
        low, high = resampling.interval(strengths[samples.argmax(axis=1)], method="inverted_cdf")
        yield identity | {
            "strengths": strengths.tolist(),
            "scores": mean.tolist(),
            **estimated("kendall_tau", kendall_tau(mean), kendall_tau(samples), resampling),
            **ends_among(len(curves), "kendall_tau", kendall_tau(samples), resampling),
            "curves": len(curves),
            "best_strength": float(strengths[best]),
            "best_strength_low": float(low),
            "best_strength_high": float(high),
            "best_score": float(mean[best]),
            **estimated("last_step", mean[-1] - mean[-2], samples[:, -1] - samples[:, -2], resampling),
            **estimated("below_best", mean[best] - mean[-1], samples.max(axis=1) - samples[:, -1], resampling),
        }
