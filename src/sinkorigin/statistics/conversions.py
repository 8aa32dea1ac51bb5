"""Conversion, sequence by sequence: in how many of them the edited position became a sink."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.binomial import share_columns
from sinkorigin.statistics.effects import IDENTITY, Effect
from sinkorigin.statistics.uniform import FACTORS

SCHEMA = tables.schema(
    **IDENTITY,
    sequences=(pa.int32(), "number of sequences"),
    factor=(
        pa.float64(),
        "so many times the uniform score make a sink; 3 is the criterion, the others show whether it matters",
    ),
    threshold=(pa.float64(), "score above which a position of a sequence is a sink: factor times the uniform one"),
    before=(pa.int32(), "sequences in which the target is a sink in the unedited model"),
    converted=(pa.int32(), "sequences in which it is one under the edit, and was none"),
    share=(pa.float64(), "converted / sequences"),
    share_low=(pa.float64(), "lower end of its exact binomial 95 % interval (Clopper and Pearson)"),
    share_high=(pa.float64(), "upper end of it"),
    lost=(pa.int32(), "sequences in which the target was a sink, and is none under the edit"),
    lost_share=(pa.float64(), "lost / before; null where no sequence had a sink there"),
    lost_share_low=(pa.float64(), "lower end of its exact binomial 95 % interval (Clopper and Pearson)"),
    lost_share_high=(pa.float64(), "upper end of it"),
)


def rows(edits: Sequence[Effect]) -> Iterator[dict]:
    """Rows of ``SCHEMA`` without model and prompts, one an edit, target and factor.

    A mean score hides that conversion is nearly all or nothing by sequence. The target of a sequence is a sink where its score
    over q > k, mean over layers and heads, is more than a factor times what uniform attention would give.
    """
    for edit, factor in product(edits, FACTORS):
        threshold = factor * edit.row["uniform"]
        before, after = (effect["score"] > threshold for effect in (edit.unedited, edit.seen))  # (N,)
        yield edit.identity | {
            "sequences": len(after),
            "factor": factor,
            "threshold": threshold,
            "before": int(np.count_nonzero(before)),
            "converted": int(np.count_nonzero(after & ~before)),
            **share_columns("share", after & ~before, edit.resampling),
            "lost": int(np.count_nonzero(before & ~after)),
            **share_columns("lost_share", ~after[before], edit.resampling.among(before)),
        }
