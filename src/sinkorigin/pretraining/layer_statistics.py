"""Sink, dimension disparity, norms, effective rank and variance of every layer, straight from a forward pass, without tables.

For the many checkpoints of a training. Definitions and functions are those of the extraction and the statistics, which say
more, with intervals, and cost several times as much; here they are summed while the model runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from sinkorigin.activations.capture import check_finite, watch_sites
from sinkorigin.activations.summaries.attention_sums import normalised_rows
from sinkorigin.activations.summaries.magnitudes import magnitude_rows
from sinkorigin.activations.summaries.residual_gram import ResidualGram
from sinkorigin.activations.summaries.scores import attention_scores
from sinkorigin.sites.architecture import Architecture
from sinkorigin.sites.definitions import output_projection_input, residual, value_aggregation
from sinkorigin.statistics.disparity import dominance_ratio
from sinkorigin.statistics.effective_rank import effective_rank
from sinkorigin.statistics.moments import ReplicatedMoments
from sinkorigin.statistics.training import Measured
from sinkorigin.statistics.uniform import uniform_score
from sinkorigin.statistics.variance import first_to_rest

# quantity → site whose variance over sequences it compares between positions
_VARIANCES = {
    "variance_ratio": output_projection_input.SITE.name,
    "aggregation_variance_ratio": value_aggregation.SITE.name,
}
SITES = (residual.SITE.name, *_VARIANCES.values())


@dataclass
class _Attention:
    """Sums over sequences and heads of what position 0 gets in one layer."""

    count: int = 0
    mass: float = 0.0
    normalised: float = 0.0
    above: np.ndarray | float = 0.0  # (epsilons,) scores above each epsilon

    def add(self, weights: Tensor, epsilons: np.ndarray) -> None:
        """Add (n, H, T, T) weights."""
        score, after = (part[..., 0].double().numpy() for part in _scores(weights))  # (n, H)
        _, normalised = _scores(normalised_rows(weights))
        self.count += score.size
        self.mass += after.sum()
        self.normalised += normalised[..., 0].double().numpy().sum()
        self.above = self.above + (score[..., None] > epsilons).sum(axis=(0, 1))


def _scores(weights: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`attention_scores` (n, H, T) of (n, H, T, T) weights."""
    return attention_scores(weights.sum(dim=-2), weights.diagonal(dim1=-2, dim2=-1))


@dataclass
class _Residual:
    """Sums over tokens of one layer's residual stream, first tokens and the others: (2,) arrays."""

    count: np.ndarray = field(default_factory=lambda: np.zeros(2))
    ratio: np.ndarray = field(default_factory=lambda: np.zeros(2))
    norm: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def add(self, layer: int, values: np.ndarray) -> None:
        """Add (n, T, d) vectors."""
        rows = magnitude_rows("residual", layer, 0, values)
        # float64 before the division, as the tables are read
        largest, mean, norm = (rows[name].astype(np.float64) for name in ("max_abs", "mean_abs", "norm"))
        ratio = dominance_ratio(largest, mean)
        first = rows["position"] == 0
        for i, chosen in enumerate((first, ~first)):
            self.count[i] += chosen.sum()
            self.ratio[i] += ratio[chosen].sum()
            self.norm[i] += norm[chosen].sum()


def layer_statistics(
    architecture: Architecture, token_ids: np.ndarray, *, model: str, batch: int, epsilons: Sequence[float]
) -> list[Measured]:
    """Every quantity of ``statistics.training.QUANTITIES`` in every layer that has it.

    Memory holds a batch, two (d, d) float64 matrices and a few (T, d) ones a layer, whatever the number of sequences.

    Args:
        architecture: of the model, read for ``SITES``.
        token_ids: (N, T) ids, T >= 2.
        batch: sequences in one forward pass, at most; long ones run fewer at a time.
        epsilons: thresholds of the sink rate.

    Raises:
        SinkoriginError: an activation is not finite, or the taps do not see what the model computes by itself (see
            :meth:`Architecture.check_against_eager`).
    """
    length = token_ids.shape[1]
    batch = architecture.fitting_batch(batch, length)
    thresholds = np.asarray(epsilons, dtype=np.float64)
    attention: dict[int, _Attention] = {}
    stream: dict[int, _Residual] = {}
    gram = ResidualGram()
    sequences = np.full((1, len(token_ids)), 1 / len(token_ids))  # their weights
    moments: dict[tuple[str, int], ReplicatedMoments] = {}

    def on_site(layer: int, site: str, values: Tensor) -> None:
        values = values.detach().reshape(-1, length, values.shape[-1]).to("cpu", torch.float32)
        check_finite(values, model, site, layer)
        if site != residual.SITE.name:
            moments.setdefault((site, layer), ReplicatedMoments(sequences)).add(values.numpy())
            return
        stream.setdefault(layer, _Residual()).add(layer, values.numpy())
        gram.add(layer, "first", values[:, 0])
        gram.add(layer, "rest", values[:, 1:].reshape(-1, values.shape[-1]))

    def on_attention(layer: int, query: Tensor, key: Tensor, weights: Tensor) -> None:
        weights = weights.detach().to("cpu", torch.float32)
        attention.setdefault(layer, _Attention()).add(weights, thresholds)

    architecture.check_against_eager(torch.from_numpy(token_ids[:1]).to(architecture.device), model)
    # BLAS on one thread: the matrices are small, and threads that wait for one another cost more than they do
    with watch_sites(architecture, SITES, on_site, on_attention), threadpool_limits(1, user_api="blas"):
        for first in range(0, len(token_ids), batch):
            architecture.forward(torch.from_numpy(token_ids[first : first + batch]).to(architecture.device))

    uniform = uniform_score(0, length)
    found: list[Measured] = []
    for layer, sums in sorted(attention.items()):
        found.append(Measured(layer, "sink_mass", sums.mass / sums.count, uniform=uniform))
        found.append(Measured(layer, "sink_mass_normalised", sums.normalised / sums.count, uniform=uniform))
        for epsilon, above in zip(epsilons, np.atleast_1d(sums.above), strict=True):
            found.append(Measured(layer, "sink_rate", float(above / sums.count), epsilon=epsilon))
    for quantity, site in _VARIANCES.items():
        for layer in sorted(layer for name, layer in moments if name == site):
            found.append(Measured(layer, quantity, _first_to_rest(moments[site, layer])))
    grams = {(layer, tokens): matrix for layer, tokens, matrix in gram.matrices()}
    for layer, totals in sorted(stream.items()):
        ratio, norm = totals.ratio / totals.count, totals.norm / totals.count
        values = {
            "dominance_ratio_first": ratio[0],
            "dominance_ratio_rest": ratio[1],
            "norm_first": norm[0],
            "norm_rest": norm[1],
            "norm_ratio": norm[0] / norm[1],
            "effective_rank": effective_rank(grams[layer, "first"] + grams[layer, "rest"]),
            "effective_rank_later": effective_rank(grams[layer, "rest"]),
        }
        found += [Measured(layer, quantity, float(value)) for quantity, value in values.items()]
    return found


def _first_to_rest(moments: ReplicatedMoments) -> float:
    """Variance at position 0 / mean of the others; 0 where all sequences begin with one vector."""
    variance = moments.variance()  # (1, T)
    variance[:, moments.same_vectors(variance)] = 0.0
    return float(first_to_rest(variance, np.arange(variance.shape[1]))[0])
