"""D1 and D2: how far one dim dominates a vector, and where activations are massive."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import shared_columns
from sinkorigin.statistics.bootstrap import interval, resamples
from sinkorigin.statistics.grids import read_layers, to_table

SITES = ("residual", "attention_input")

_KEYS = {
    **shared_columns.KEYS,
    "site": shared_columns.SITE,
    "layer": shared_columns.LAYER_OR_EMBEDDING,
}

DISPARITY_SCHEMA = tables.schema(
    **_KEYS,
    position=shared_columns.POSITION,
    width=(pa.int32(), "number of dims, the largest possible dominance ratio"),
    dominance_ratio=(pa.float64(), "mean over sequences of max |h| / mean |h| over dims"),
    dominance_ratio_low=shared_columns.LOW,
    dominance_ratio_high=shared_columns.HIGH,
    relative=(pa.float64(), "dominance_ratio / width, to compare models of different width"),
    dominant_dim=(pa.int32(), "dim that has the largest |h| in most sequences; the smallest of equals"),
    dominant_share=(pa.float64(), "share of the sequences in which it has"),
)

DISPARITY_BY_LAYER_SCHEMA = tables.schema(
    **_KEYS,
    width=(pa.int32(), "number of dims, the largest possible dominance ratio"),
    first=(pa.float64(), "mean over sequences of the dominance ratio at position 0"),
    first_low=shared_columns.LOW,
    first_high=shared_columns.HIGH,
    rest=(pa.float64(), "mean over sequences and positions >= 1 of the dominance ratio; null where there are none"),
    rest_low=shared_columns.LOW,
    rest_high=shared_columns.HIGH,
)


MASSIVE_SCHEMA = tables.schema(
    **_KEYS,
    position=shared_columns.POSITION,
    share=(
        pa.float64(),
        "share of the sequences whose largest |x| here is massive: > 100 and >= 1000 times the median",
    ),
    share_low=shared_columns.LOW,
    share_high=shared_columns.HIGH,
    max_abs=(pa.float64(), "mean over sequences of the largest |x|"),
    max_over_median=(
        pa.float64(),
        "mean over sequences of the largest |x| / median |x| of the sequence's layer; null where none exceeds 100",
    ),
    dim=(pa.int32(), "dim of the largest |x| in most of the sequences where it is massive; null where none is"),
)

# Sun et al. 2024, "Massive Activations in Large Language Models", §2
MASSIVE_MAGNITUDE, MASSIVE_OVER_MEDIAN = 100.0, 1000.0


def is_massive(max_abs: np.ndarray, hidden_median: np.ndarray) -> np.ndarray:
    """Sun et al.'s criterion: |x| > 100 and at least 1000 times the median magnitude of its layer's hidden state.

    Args:
        max_abs: magnitudes; hidden_median: the median of |x| over all positions and dims of the same sequence and
            layer, NaN where nothing exceeds 100.
    """
    return (max_abs > MASSIVE_MAGNITUDE) & (max_abs >= MASSIVE_OVER_MEDIAN * np.nan_to_num(hidden_median, nan=np.inf))


def massive_table(magnitudes: str | Path, *, model: str, prompts: str, replicates: int, seed: int) -> pa.Table:
    """D2 of the residual stream by (layer, position); arguments as :func:`disparity_tables`.

    Returns:
        A table of ``MASSIVE_SCHEMA``.
    """
    parts = []
    for layer, points, columns in read_layers(
        magnitudes,
        axes=("sequence", "position"),
        columns=("max_abs", "max_dim", "hidden_median"),
        site="residual",
    ):
        largest, median = columns["max_abs"], columns["hidden_median"]  # (N, T)
        massive = is_massive(largest, median)
        low, high = interval(resamples(len(massive), replicates, seed) @ massive.astype(np.float64))
        dim, count = _most_frequent(columns["max_dim"], massive)
        known = ~np.isnan(median)
        with np.errstate(invalid="ignore"):
            over = np.where(known, largest / median, 0).sum(axis=0) / known.sum(axis=0)
        parts.append(
            to_table(
                MASSIVE_SCHEMA,
                model=model,
                prompts=prompts,
                site="residual",
                layer=layer,
                position=points["position"],
                share=massive.mean(axis=0),
                share_low=low,
                share_high=high,
                max_abs=largest.mean(axis=0),
                max_over_median=over,
                dim=np.where(count > 0, dim, np.nan),
            )
        )
    return pa.concat_tables(parts)


def dominance_ratio(max_abs: np.ndarray, mean_abs: np.ndarray) -> np.ndarray:
    """DomRatio(h) = max_j |h_j| / mean_j |h_j| (arXiv 2605.06611, "dimension disparity"; docs/paper.md, D1).

    Args:
        max_abs, mean_abs: largest and mean absolute value over the d dims, of any one shape.

    Returns:
        The same shape, no unit: from 1 (all dims equal) to d (one dim has everything); NaN for a zero vector.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(max_abs) / np.asarray(mean_abs)


def _most_frequent(dims: np.ndarray, chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mode over sequences of (N, T) dims, the smallest of equals, and how many of the sequences have it, each (T,).

    With ``chosen``, (N, T), only of the sequences that it marks; the mode is 0, of 0 sequences, where it marks none.
    """
    length, width = dims.shape[1], int(dims.max()) + 1
    places = np.arange(length) * width + dims  # (N, T): the counter of each dim at each position
    places = places.reshape(-1) if chosen is None else places[chosen]
    counts = np.bincount(places, minlength=length * width).reshape(length, width)
    return counts.argmax(axis=1), counts.max(axis=1)


def disparity_tables(
    magnitudes: str | Path, *, model: str, prompts: str, replicates: int, seed: int
) -> tuple[pa.Table, pa.Table]:
    """D1 of the sites in ``SITES`` that the table has, by (layer, position), and first token against rest by layer.

    Args:
        magnitudes: the table of (site, layer, sequence, position, mean_abs, max_abs, max_dim, width, ...).
        model, prompts: names, for the first columns.
        replicates, seed: of the bootstrap over sequences.

    Returns:
        Tables of ``DISPARITY_SCHEMA`` and ``DISPARITY_BY_LAYER_SCHEMA``.

    Raises:
        SinkoriginError: the table has none of the sites.
    """
    by_position, by_layer = [], []
    for site in SITES:
        for layer, points, columns in read_layers(
            magnitudes,
            axes=("sequence", "position"),
            columns=("mean_abs", "max_abs", "max_dim", "width"),
            site=site,
        ):
            keys = {"model": model, "prompts": prompts, "site": site, "layer": layer}
            width = int(columns["width"].flat[0])
            ratio = dominance_ratio(columns["max_abs"], columns["mean_abs"])  # (N, T)
            weights = resamples(len(ratio), replicates, seed)
            means = np.concatenate([ratio.mean(axis=0, keepdims=True), weights @ ratio])  # (1 + R, T)
            low, high = interval(means[1:])
            dim, count = _most_frequent(columns["max_dim"])
            by_position.append(
                to_table(
                    DISPARITY_SCHEMA,
                    **keys,
                    position=points["position"],
                    width=width,
                    dominance_ratio=means[0],
                    dominance_ratio_low=low,
                    dominance_ratio_high=high,
                    relative=means[0] / width,
                    dominant_dim=dim,
                    dominant_share=count / len(ratio),
                )
            )
            first = means[:, 0]
            rest = means[:, 1:].mean(axis=1) if means.shape[1] > 1 else np.full_like(first, np.nan)
            first_low, first_high = interval(first[1:])
            rest_low, rest_high = interval(rest[1:])
            by_layer.append(
                to_table(
                    DISPARITY_BY_LAYER_SCHEMA,
                    **keys,
                    width=[width],
                    first=first[0],
                    first_low=first_low,
                    first_high=first_high,
                    rest=rest[0],
                    rest_low=rest_low,
                    rest_high=rest_high,
                )
            )
    if not by_layer:
        raise SinkoriginError(f"{magnitudes} has none of the sites {', '.join(SITES)}; add one to the sites to extract")
    return pa.concat_tables(by_position), pa.concat_tables(by_layer)
