"""Conversion, sequence by sequence: in how many of them the edited position became a sink."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.binomial import exact_interval
from sinkorigin.statistics.effects import IDENTITY, Effect
from sinkorigin.statistics.uniform import SINK_FACTOR

SCHEMA = tables.schema(
    **IDENTITY,
    sequences=(pa.int32(), "number of sequences"),
    threshold=(pa.float64(), "score above which a position of a sequence is a sink: 3 times the uniform one"),
    before=(pa.int32(), "sequences in which the target is a sink in the unedited model"),
    converted=(pa.int32(), "sequences in which it is one under the edit, and was none"),
    share=(pa.float64(), "converted / sequences"),
    share_low=(pa.float64(), "lower end of its exact binomial 95 % interval (Clopper and Pearson)"),
    share_high=(pa.float64(), "upper end of it"),
)


def rows(edits: Sequence[Effect]) -> Iterator[dict]:
    """Rows of ``SCHEMA`` without model and prompts, one an edit and target.

    A mean score hides that conversion is nearly all or nothing by sequence. The target of a sequence is a sink where its score
    over q > k, mean over layers and heads, is more than ``SINK_FACTOR`` times what uniform attention would give.
    """
    for edit in edits:
        threshold = SINK_FACTOR * edit.row["uniform"]
        before, after = (effect["score"] > threshold for effect in (edit.unedited, edit.seen))  # (N,)
        converted = int(np.count_nonzero(after & ~before))
        low, high = exact_interval(converted, len(after))
        yield edit.identity | {
            "sequences": len(after),
            "threshold": threshold,
            "before": int(np.count_nonzero(before)),
            "converted": converted,
            "share": converted / len(after),
            "share_low": low,
            "share_high": high,
        }
