"""Permutations of layers, for questions about heads, which more sequences do not answer."""

import math
from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

PERMUTATIONS = 9999
_AT_ONCE = 2**18  # places that are looked up at once


def layer_orders(layer: np.ndarray, seed: int) -> np.ndarray:
    """Orders of heads in which whole layers change places: heads of one layer are alike (they share keys), so they stay together.

    Args:
        layer: (heads,) layer of each head, rising.

    Returns:
        (P, heads) places, the first as it is: all orders of few layers, else ``PERMUTATIONS`` random ones after it.
    """
    members = np.split(np.arange(len(layer), dtype=np.int32), np.flatnonzero(np.diff(layer)) + 1)
    several = range(len(members))
    orders: list[Sequence[int]] = [several]
    if math.factorial(min(len(members), 20)) <= PERMUTATIONS:
        orders = list(permutations(several))
    else:
        rng = np.random.default_rng(seed)
        orders += [rng.permutation(len(members)).tolist() for _ in range(PERMUTATIONS)]
    places = np.empty((len(orders), len(layer)), dtype=np.int32)
    for row, order in zip(places, orders, strict=True):
        np.concatenate([members[one] for one in order], out=row)
    return places


def permuted(values: np.ndarray, orders: np.ndarray) -> Iterator[np.ndarray]:
    """Parts (p, heads) of the (heads,) values in all (P, heads) orders, few enough to be held at once."""
    for part in np.array_split(orders, -(-orders.size // _AT_ONCE)):
        yield values[part]
