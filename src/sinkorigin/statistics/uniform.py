"""The score that attention without preference for any key would give: the level that a sink is held against."""

import numpy as np

# A sink gets more than this many times what uniform attention would give, at any position. The paper gives no criterion.
SINK_FACTOR = 3.0


def uniform_score(position: int, length: int, *, include_self: bool = False) -> float:
    """Score of key position k when every query q spreads its attention evenly over its q + 1 keys.

    Args:
        position: k.
        length: T, number of positions.
        include_self: whether the mean is over queries q >= k instead of q > k.

    Returns:
        Mean of 1 / (q + 1) over these queries; NaN where there are none. It falls with k: for T = 64 and q >= k it is
        0.074 at 0 and 0.019 at 40.
    """
    queries = np.arange(position if include_self else position + 1, length)
    return float(np.mean(1 / (queries + 1))) if len(queries) else float("nan")
