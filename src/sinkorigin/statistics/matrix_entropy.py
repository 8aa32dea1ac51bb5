"""E2, matrix-based entropy of the residual stream by layer, with and without position 0, and its valley."""

from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import from_rows, read_layers
from sinkorigin.statistics.rank_correlation import spearman
from sinkorigin.statistics.residual_grams import read_grams
from sinkorigin.statistics.shared_columns import KEYS, LAYER_OR_EMBEDDING, NOT_APPLICABLE, estimate
from sinkorigin.statistics.sink_masses import sink_masses

MATRIX_ENTROPY_SCHEMA = tables.schema(
    **KEYS,
    layer=LAYER_OR_EMBEDDING,
    positions=(pa.string(), "all, or later: without position 0"),
    over=(pa.string(), "sequence: of the tokens of one sequence, mean over sequences; prompts: of all tokens together"),
    sequences=(pa.int32(), "number of sequences; null over prompts"),
    tokens=(pa.int64(), "number of tokens, the rows of a matrix"),
    width=(pa.int32(), "number of dims, its columns"),
    **estimate("entropy", "von Neumann entropy of the Gram matrix of the tokens over its trace, in nats"),
    **estimate(
        "normalised", "entropy / ln of the largest possible rank, min(tokens, width): 0 … 1; null for one token"
    ),
)

ENTROPY_VALLEY_SCHEMA = tables.schema(
    **KEYS,
    layer=(pa.int32(), "layer with the lowest normalised entropy of one sequence, all positions"),
    sequences=(pa.int32(), "number of sequences"),
    **estimate("lowest", "that entropy"),
    **estimate("fall", "the highest of the layers before it, and of the embedding, - lowest"),
    **estimate("rise", "the highest of the layers after it - lowest; null for the last layer"),
    **estimate("without_first", "normalised entropy of the same layer without position 0"),
    **estimate("first_token", "without_first - lowest: what position 0 takes from the entropy there"),
    layers=(pa.int32(), "number of layers with attention"),
    **estimate(
        "correlation",
        "Spearman's rank correlation, over these, of the sink mass and the normalised entropy (all positions) of the residual that "
        "enters the layer; null for fewer than 3",
    ),
    not_applicable=NOT_APPLICABLE,
)

TABLES = {"matrix_entropy": MATRIX_ENTROPY_SCHEMA, "entropy_valley": ENTROPY_VALLEY_SCHEMA}

_FEWEST_LAYERS = 3  # of which ranks can be compared: two always have a correlation of 1 or −1


def von_neumann_entropy(gram: np.ndarray) -> np.ndarray:
    """−Σ p ln p over the eigenvalues p of K / tr K (Skean et al. 2025, "Layer by Layer"; Queipo-de-Llano et al. 2025).

    Args:
        gram: (..., n, n) float64, K = X X^T or X^T X of a (tokens, d) matrix X; only the upper triangle is read.

    Returns:
        (...) nats, from 0 (one direction) to ln n; NaN for a zero matrix. With the singular values σ of X, p = σ² / Σ σ².
    """
    values = np.clip(np.linalg.eigvalsh(gram, UPLO="U"), 0, None)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = values / values.sum(axis=-1, keepdims=True)
        return 0.0 - np.where(shares == 0, 0.0, shares * np.log(shares)).sum(axis=-1)


def compute(inputs: Mapping[str, str], *, model: str, prompts: str, resampling: Resampling) -> dict[str, pa.Table]:
    """E2 of the residual stream: of the tokens of one sequence, as its sources take it, and of all tokens of the prompts.

    Queipo-de-Llano et al. 2025, "Attention Sinks and Compression Valleys in LLMs Are Two Sides of the Same Coin": the
    first token's massive activation leaves the other tokens little of the trace, so that the entropy falls where the sink begins.

    Args:
        inputs: paths of ``token_gram`` (of some sequences), ``residual_gram`` (of all tokens) and ``scores``.
        model, prompts: names, for the first columns.
        resampling: how intervals resample the sequences.

    Returns:
        ``matrix_entropy`` (``MATRIX_ENTROPY_SCHEMA``: for each layer and the embedding, all and later positions, over each) and
        ``entropy_valley`` (one row of ``ENTROPY_VALLEY_SCHEMA``). Which layers are compared is decided by the data, not by replicates.
    """
    names = {"model": model, "prompts": prompts}
    found: list[dict] = []
    curves: dict[str, dict[int, np.ndarray]] = {
        "all": {},
        "later": {},
    }  # positions → layer → (1 + R,) normalised entropy
    sequences = 0
    for layer, positions, entropies, tokens, width in _of_sequences(Path(inputs["token_gram"])):
        sequences = len(entropies)
        resampling = resampling.first(sequences)
        samples = resampling.means(entropies)  # (1 + R,)
        curves[positions][layer] = normalised = samples / _bound(tokens, width)
        found.append(
            {
                "layer": layer,
                "positions": positions,
                "over": "sequence",
                "sequences": sequences,
                "tokens": tokens,
                "width": width,
            }
            | resampling.with_interval("entropy", samples)
            | resampling.with_interval("normalised", normalised)
        )
    without_interval = dict.fromkeys(MATRIX_ENTROPY_SCHEMA.names)
    for layer, positions, entropy, tokens, width in _of_prompts(Path(inputs["residual_gram"])):
        found.append(
            without_interval
            | {"layer": layer, "positions": positions, "over": "prompts", "tokens": tokens, "width": width}
            | {"entropy": entropy, "normalised": entropy / _bound(tokens, width)}
        )
    masses = {
        layer: resampling.means(mass[:sequences].mean(axis=1))  # (1 + R,)
        for layer, mass in sink_masses(inputs["scores"]).items()
    }
    valley = _valley(curves["all"], curves["later"], masses, resampling) | {"sequences": sequences}
    return {
        "matrix_entropy": from_rows(MATRIX_ENTROPY_SCHEMA, [row | names for row in found]),
        "entropy_valley": from_rows(ENTROPY_VALLEY_SCHEMA, [valley | names]),
    }


def _bound(tokens: int, width: int) -> float:
    """Largest possible entropy of so many tokens, ln of the rank bound; NaN where that is 1, so that nothing is divided by 0."""
    rank = min(tokens, width)
    return float(np.log(rank)) if rank > 1 else float("nan")


def _of_sequences(path: Path) -> Iterator[tuple[int, str, np.ndarray, int, int]]:
    """Layer, positions, (n,) entropy of each sequence, and the numbers of its tokens and dims."""
    for layer, _, columns in read_layers(path, axes=("sequence",), columns=("tokens", "width", "products")):
        tokens, products = int(columns["tokens"][0]), columns["products"]
        if products is None or products.shape[1] != tokens * (tokens + 1) // 2:
            raise SinkoriginError(f"{path}: layer {layer} is incomplete; {tables.remedy(path)}")
        gram = np.zeros((len(products), tokens, tokens))
        gram[:, *np.triu_indices(tokens)] = products
        for positions, part in (("all", gram), ("later", gram[:, 1:, 1:])):
            if part.size:
                yield layer, positions, von_neumann_entropy(part), part.shape[1], int(columns["width"][0])


def _of_prompts(path: Path) -> Iterator[tuple[int, str, float, int, int]]:
    """Layer, positions, entropy of all tokens, and the numbers of tokens and dims."""
    for layer, parts in read_grams(path):
        for positions, which in (("all", ("first", "rest")), ("later", ("rest",))):
            chosen = [parts[tokens] for tokens in which if tokens in parts]
            if chosen:
                count, gram = sum(part[0] for part in chosen), reduce(np.add, (part[2] for part in chosen))
                yield layer, positions, float(von_neumann_entropy(gram)), count, len(gram)


def _valley(
    curve: Mapping[int, np.ndarray],
    later: Mapping[int, np.ndarray],
    masses: Mapping[int, np.ndarray],
    resampling: Resampling,
) -> dict:
    """Columns of the valley: where the entropy is lowest, how deep, what position 0 has to do with it, and whether it goes with the sink.

    Args:
        curve, later: layer → (1 + R,) normalised entropy of all positions, and without position 0; -1 is the embedding.
        masses: layer → (1 + R,) sink mass, for the layers with attention.
        resampling: of the replicates.
    """
    empty = dict.fromkeys(ENTROPY_VALLEY_SCHEMA.names) | {"layers": len(masses)}
    values = {layer: samples[0] for layer, samples in curve.items() if not np.isnan(samples[0])}
    if not [layer for layer in values if layer >= 0] or not later:
        return empty | {"not_applicable": "sequences of one or two tokens have no entropy to compare"}
    lowest = min((layer for layer in values if layer >= 0), key=lambda layer: (values[layer], layer))
    missing = np.full_like(curve[lowest], np.nan)

    def highest(layers: list[int]) -> np.ndarray:
        return curve[max(layers, key=lambda layer: (values[layer], -layer))] if layers else missing

    reasons = []
    entered = [layer for layer in sorted(masses) if layer - 1 in values]
    correlation = missing
    if len(entered) < _FEWEST_LAYERS:
        reasons.append(f"ranks of fewer than {_FEWEST_LAYERS} layers cannot be compared")
    else:
        correlation = spearman(
            np.stack([curve[layer - 1] for layer in entered], axis=1),
            np.stack([masses[layer] for layer in entered], axis=1),
        )
    samples = {
        "lowest": curve[lowest],
        "fall": highest([layer for layer in values if layer < lowest]) - curve[lowest],
        "rise": highest([layer for layer in values if layer > lowest]) - curve[lowest],
        "without_first": later[lowest],
        "first_token": later[lowest] - curve[lowest],
        "correlation": correlation,
    }
    intervals = {
        key: value for name, part in samples.items() for key, value in resampling.with_interval(name, part).items()
    }
    return empty | intervals | {"layer": lowest, "not_applicable": "; ".join(reasons) or None}
