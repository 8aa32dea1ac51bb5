"""The score that attention without preference for any key would give: the level that a sink is held against."""

import numpy as np

# A sink gets more than this many times what uniform attention would give, at any position. The paper gives no criterion.
SINK_FACTOR = 3.0
FACTORS = (2.0, SINK_FACTOR, 5.0)  # the criterion, and two beside it that show whether it matters


def uniform_score(position: int, length: int) -> float:
    """Score of key position k when every query q > k spreads its attention evenly over its q + 1 keys.

    Args:
        position: k.
        length: T, number of positions.

    Returns:
        Mean of 1 / (q + 1) over these queries; NaN where there are none. It falls with k: for T = 64 it is 0.059 at 0
        and 0.019 at 40.
    """
    queries = np.arange(position + 1, length)
    return float(np.mean(1 / (queries + 1))) if len(queries) else float("nan")
