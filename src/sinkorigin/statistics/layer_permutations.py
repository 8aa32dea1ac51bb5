"""Permutations of layers, for questions about heads, which more sequences do not answer."""

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np

PERMUTATIONS = 9999


def layer_orders(layer: np.ndarray, seed: int) -> np.ndarray:
    """Orders of heads in which whole layers change places: heads of one layer are alike (they share keys), so they stay together.

    Args:
        layer: (heads,) layer of each head, rising.

    Returns:
        (P, heads) places, the first as it is: all orders of few layers, else ``PERMUTATIONS`` random ones after it.
    """
    members = np.split(np.arange(len(layer)), np.flatnonzero(np.diff(layer)) + 1)
    several = range(len(members))
    orders: list[Sequence[int]] = [several]
    if math.factorial(min(len(members), 20)) <= PERMUTATIONS:
        orders = list(permutations(several))
    else:
        rng = np.random.default_rng(seed)
        orders += [rng.permutation(len(members)).tolist() for _ in range(PERMUTATIONS)]
    return np.array([np.concatenate([members[one] for one in order]) for order in orders])
