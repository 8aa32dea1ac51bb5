"""D1 and D2: how far one dim dominates a vector, and where activations are massive."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import read_layers, to_table
from sinkorigin.statistics.shared_columns import POSITION, SITE_KEYS, estimate

SITES = ("residual", "attention_input")

_WIDTH = (pa.int32(), "number of dims, the largest possible dominance ratio")

DISPARITY_SCHEMA = tables.schema(
    **SITE_KEYS,
    position=POSITION,
    width=_WIDTH,
    **estimate("dominance_ratio", "mean over sequences of max |h| / mean |h| over dims"),
    relative=(pa.float64(), "dominance_ratio / width, to compare models of different width"),
    dominant_dim=(pa.int32(), "dim that has the largest |h| in most sequences; the smallest of equals"),
    dominant_share=(pa.float64(), "share of the sequences in which it has"),
)

DISPARITY_BY_LAYER_SCHEMA = tables.schema(
    **SITE_KEYS,
    width=_WIDTH,
    **estimate("first", "mean over sequences of the dominance ratio at position 0"),
    **estimate("rest", "mean over sequences and positions >= 1 of the dominance ratio; null where there are none"),
)

MASSIVE_SCHEMA = tables.schema(
    **SITE_KEYS,
    position=POSITION,
    **estimate("share", "share of the sequences whose largest |x| here is massive: > 100 and >= 1000 times the median"),
    max_abs=(pa.float64(), "mean over sequences of the largest |x|"),
    max_over_median=(
        pa.float64(),
        "mean over sequences of the largest |x| / median |x| of the sequence's layer; null where none exceeds 100",
    ),
    dim=(pa.int32(), "dim of the largest |x| in most of the sequences where it is massive; null where none is"),
)

TABLES = {
    "disparity": DISPARITY_SCHEMA,
    "disparity_by_layer": DISPARITY_BY_LAYER_SCHEMA,
    "massive_activations": MASSIVE_SCHEMA,
}

# Sun et al. 2024, "Massive Activations in Large Language Models", §2
MASSIVE_MAGNITUDE, MASSIVE_OVER_MEDIAN = 100.0, 1000.0


def compute(inputs: Mapping[str, str], *, model: str, prompts: str, resampling: Resampling) -> dict[str, pa.Table]:
    """D1 of the sites in ``SITES`` that the table has, and D2 of the residual stream.

    Args:
        inputs: path of ``magnitudes`` (site, layer, sequence, position, mean_abs, max_abs, max_dim, hidden_median, ...).
        model, prompts: names, for the first columns.
        resampling: how intervals resample the sequences.

    Returns:
        ``disparity`` (by layer and position, ``DISPARITY_SCHEMA``), ``disparity_by_layer`` (first token against the rest,
        ``DISPARITY_BY_LAYER_SCHEMA``) and ``massive_activations`` (``MASSIVE_SCHEMA``).

    Raises:
        SinkoriginError: the table has none of the sites.
    """
    magnitudes = inputs["magnitudes"]
    names = {"model": model, "prompts": prompts}
    by_position, by_layer = [], []
    for site in SITES:
        for layer, points, columns in read_layers(
            magnitudes, axes=("sequence", "position"), columns=("mean_abs", "max_abs", "max_dim", "width"), site=site
        ):
            keys = {**names, "site": site, "layer": layer}
            width = int(columns["width"].flat[0])
            ratio = dominance_ratio(columns["max_abs"], columns["mean_abs"])  # (N, T)
            means = resampling.means(ratio)
            dim, count = _most_frequent(columns["max_dim"])
            by_position.append(
                to_table(
                    DISPARITY_SCHEMA,
                    **keys,
                    position=points["position"],
                    width=width,
                    **resampling.with_interval("dominance_ratio", means),  # of (1 + R, T)
                    relative=means[0] / width,
                    dominant_dim=dim,
                    dominant_share=count / len(ratio),
                )
            )
            first = means[:, 0]
            rest = means[:, 1:].mean(axis=1) if means.shape[1] > 1 else np.full_like(first, np.nan)
            intervals = resampling.with_interval("first", first) | resampling.with_interval("rest", rest)
            by_layer.append(to_table(DISPARITY_BY_LAYER_SCHEMA, **keys, width=[width], **intervals))
    if not by_layer:
        raise SinkoriginError(f"{magnitudes} has none of the sites {', '.join(SITES)}; add one to the sites to extract")
    return {
        "disparity": pa.concat_tables(by_position),
        "disparity_by_layer": pa.concat_tables(by_layer),
        "massive_activations": _massive_activations(magnitudes, names, resampling),
    }


def _massive_activations(magnitudes: str, names: Mapping[str, str], resampling: Resampling) -> pa.Table:
    """D2 of the residual stream by (layer, position): a table of ``MASSIVE_SCHEMA``."""
    parts = []
    for layer, points, columns in read_layers(
        magnitudes, axes=("sequence", "position"), columns=("max_abs", "max_dim", "hidden_median"), site="residual"
    ):
        largest, median = columns["max_abs"], columns["hidden_median"]  # (N, T)
        massive = is_massive(largest, median)
        dim, count = _most_frequent(columns["max_dim"], massive)
        known = ~np.isnan(median)
        with np.errstate(invalid="ignore"):
            over = np.where(known, largest / median, 0).sum(axis=0) / known.sum(axis=0)
        parts.append(
            to_table(
                MASSIVE_SCHEMA,
                **names,
                site="residual",
                layer=layer,
                position=points["position"],
                **resampling.with_interval("share", resampling.means(massive.astype(np.float64))),
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
        An array of that shape, no unit: from 1 (all dims equal) to d (one dim has everything); NaN for a zero vector.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(max_abs) / np.asarray(mean_abs)


def is_massive(max_abs: np.ndarray, hidden_median: np.ndarray) -> np.ndarray:
    """Criterion of Sun et al. 2024, §2: |x| > 100 and at least 1000 times the median magnitude of its hidden state.

    Args:
        max_abs: magnitudes |x|.
        hidden_median: median of |x| over all positions and dims of the sequence's hidden state in that layer, NaN where
            nothing exceeds 100.
    """
    return (max_abs > MASSIVE_MAGNITUDE) & (max_abs >= MASSIVE_OVER_MEDIAN * np.nan_to_num(hidden_median, nan=np.inf))


def _most_frequent(dims: np.ndarray, chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Most frequent dim over sequences, the smallest of equals, and how many of the sequences have it.

    Args:
        dims: (N, T).
        chosen: (N, T) which sequences count at each position; all by default.

    Returns:
        dim (T,), 0 where no sequence counts, and count (T,).
    """
    length, width = dims.shape[1], int(dims.max()) + 1
    places = np.arange(length) * width + dims  # (N, T): the counter of each dim at each position
    places = places.reshape(-1) if chosen is None else places[chosen]
    counts = np.bincount(places, minlength=length * width).reshape(length, width)
    return counts.argmax(axis=1), counts.max(axis=1)
