"""Edits of a running model, as composable taps: what each does to the vectors of one position.

At a target k the value aggregation of a head is o_k = sum_j A[k, j] v_j. Sufficiency edits give it what position 0 has (its
own value vector alone, or a larger variance); their controls change it by as much in another way; necessity edits take
from position 0 what the paper's chain needs.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.attention import Tap


@dataclass
class Moments:
    """Mean over sequences of a site's vectors at an edit's layers and positions, and their spread.

    Attributes:
        mean: layer → (P, G, w) float64 means; G groups of w numbers: heads of the value aggregation, else one group.
        spread: layer → (P, G) float64 root mean square over sequences of ‖vector − mean‖.
    """

    mean: dict[int, Tensor] = field(default_factory=dict)
    spread: dict[int, Tensor] = field(default_factory=dict)


class Edit(Tap):
    """Something done at some layers to some positions.

    Attributes:
        site: the site that is edited, a word of docs/science.md.
        layers, positions: where, counted from 0.
        across: fewest sequences of a batch that the edit needs, because it mixes them.
    """

    site = "attention"
    across = 1

    def __init__(self, *, layers: Sequence[int], positions: Sequence[int]):
        self.layers = tuple(sorted(set(layers)))
        self.positions = tuple(sorted(set(positions)))

    @property
    def changes_nothing(self) -> bool:
        """Whether the edit is the identity, so that it need not be set at all."""
        return not self.layers or not self.positions

    def at_layers(self, layers: Sequence[int]):
        """The same edit, at these layers only."""
        other = copy.copy(self)
        other.layers = tuple(sorted(set(layers)))
        return other

    def _rows(self, layer: int, offset: int, length: int) -> list[tuple[int, int]]:
        """(index into positions, row in this call) of the targets that this call computes."""
        if layer not in self.layers:
            return []
        return [(i, p - offset) for i, p in enumerate(self.positions) if 0 <= p - offset < length]


class Mask(Edit):
    """I1: at ``layers`` the positions attend to themselves only, so o_k = v_k exactly.

    Where a model has learned sink logits (gpt-oss), these keep their share of the attention.
    """

    def edit_logits(self, layer, logits, offset):
        for i, row in self._rows(layer, offset, logits.shape[2]):
            alone = torch.full_like(logits[:, :, row], torch.finfo(logits.dtype).min)
            alone[..., self.positions[i]] = logits[:, :, row, self.positions[i]]
            logits = logits.index_copy(2, torch.tensor([row], device=logits.device), alone.unsqueeze(2))
        return logits


class VectorEdit(Edit):
    """An edit of the vectors of one site: the value aggregation, head by head, or the input or output of a module.

    Args:
        layers, positions: where.
        site: "value_aggregation", "attention_output", "ffn_activation", "ffn_output" or "residual".
    """

    moments: Moments | None = None

    def __init__(self, *, layers, positions, site: str = "value_aggregation"):
        super().__init__(layers=layers, positions=positions)
        self.site = site

    @property
    def needs_moments(self) -> bool:
        """Whether the edit uses a mean over sequences."""
        return False

    def edited(self, layer: int, index: int, own: Tensor) -> Tensor:
        """The edited vectors of ``positions[index]``, from (N, G, w) of all sequences of the batch."""
        raise NotImplementedError

    def edit_aggregation(self, layer, aggregation, offset):
        if self.site != "value_aggregation":
            return aggregation
        return self.edit_vectors(layer, aggregation.transpose(1, 2), offset).transpose(1, 2)

    def edit_vectors(self, layer: int, vectors: Tensor, offset: int) -> Tensor:
        """Edit the rows of (N, T, G, w) vectors that are targets; the others are handed on as they are."""
        for i, row in self._rows(layer, offset, vectors.shape[1]):
            if len(vectors) < self.across:
                raise SinkoriginError(
                    f"{type(self).__name__} mixes {self.across} sequences of a batch, but this one has {len(vectors)}; "
                    "run more sequences at once"
                )
            own = self.edited(layer, i, vectors[:, row])
            place = torch.tensor([row], device=vectors.device)
            vectors = vectors.index_copy(1, place, own.to(vectors.dtype).unsqueeze(1))
        return vectors

    def _mean(self, layer: int, index: int, own: Tensor) -> Tensor:
        """(1 or no N, G, w): the estimated mean, or that of the running batch."""
        if self.moments is None:
            if len(own) < 2:
                raise SinkoriginError(
                    f"{type(self).__name__} needs a mean over sequences, but the batch has one; run several sequences at "
                    "once, or give moments"
                )
            return own.mean(dim=0, keepdim=True)
        return self.moments.mean[layer][index].to(own)


class Recombination(VectorEdit):
    """The grid o'_k = mean_factor · μ + strength · (o_k − μ), computed so that factors of 1 change no bit.

    Variance amplification is the line mean_factor = 1, the norm control the line mean_factor = strength.

    Args:
        layers, positions, site: where.
        strength: λ, of the deviation from the mean over sequences; one number, or layer → number.
        mean_factor: α, of the mean.
        moments: the means; without it that of the running batch is taken.
    """

    def __init__(
        self,
        *,
        layers,
        positions,
        strength: float | Mapping[int, float],
        mean_factor: float = 1.0,
        site: str = "value_aggregation",
        moments: Moments | None = None,
    ):
        super().__init__(layers=layers, positions=positions, site=site)
        _check_finite(strength, mean_factor)
        self.strength, self.mean_factor, self.moments = strength, mean_factor, moments

    @property
    def needs_moments(self) -> bool:
        return not isinstance(self.strength, float | int) or self.strength != self.mean_factor

    @property
    def changes_nothing(self) -> bool:
        return super().changes_nothing or (self.strength == 1 and self.mean_factor == 1)

    def edited(self, layer, index, own):
        strength = self.strength[layer] if isinstance(self.strength, Mapping) else self.strength
        if strength == self.mean_factor:
            return strength * own
        mean = self._mean(layer, index, own)
        own = own + (strength - 1) * (own - mean)
        return own if self.mean_factor == 1 else own + (self.mean_factor - 1) * mean


class VarianceAmplification(Recombination):
    """I2: o'_k = o_k + (strength − 1)(o_k − μ), the mean being over sequences. A strength below 1 shrinks the variance.

    Args:
        layers, positions, site, moments: as of :class:`Recombination`.
        strength: λ > 0, or layer → λ.
    """

    def __init__(self, *, layers, positions, strength, site="value_aggregation", moments: Moments | None = None):
        super().__init__(layers=layers, positions=positions, strength=strength, site=site, moments=moments)


class NormControl(Recombination):
    """I3: o'_k = strength · o_k. The variance is that of I2, the dispersion relative to the mean stays as it was."""

    def __init__(self, *, layers, positions, strength: float, site="value_aggregation"):
        super().__init__(layers=layers, positions=positions, strength=strength, mean_factor=strength, site=site)


class _Seeded(VectorEdit):
    """An edit with random directions, the same in every run and for every batch size.

    Args:
        layers, positions, site, moments: as of :class:`Recombination`.
        strength: λ; what is added has the norm that I2 of this λ adds.
        seed: of the directions.
    """

    def __init__(self, *, layers, positions, strength: float, site="value_aggregation", moments=None, seed: int = 0):
        super().__init__(layers=layers, positions=positions, site=site)
        _check_finite(strength)
        self.strength, self.moments, self.seed = strength, moments, seed
        self.first_sequence = 0  # number of the batch's first sequence

    @property
    def needs_moments(self) -> bool:
        return True

    @property
    def changes_nothing(self) -> bool:
        return super().changes_nothing or self.strength == 1

    def _directions(self, layer: int, index: int, own: Tensor, *numbers: int) -> Tensor:
        """(G, w) unit vectors that depend on the seed, the layer, the position and ``numbers``."""
        generator = np.random.default_rng([self.seed, layer, self.positions[index], *numbers])
        vectors = generator.standard_normal(own.shape[1:])
        return torch.from_numpy(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).to(own)


class RandomDirections(_Seeded):
    """Control of I2: o'_k = o_k + (strength − 1) ‖o_k − μ‖ u, u a random unit vector of each head and sequence."""

    def edited(self, layer, index, own):
        size = torch.linalg.vector_norm(own - self._mean(layer, index, own), dim=-1, keepdim=True)
        numbers = range(self.first_sequence, self.first_sequence + len(own))
        directions = torch.stack([self._directions(layer, index, own, number) for number in numbers])
        return own + (self.strength - 1) * size * directions


class MeanShift(_Seeded):
    """Control of I2: every sequence is shifted by the same vector, o'_k = o_k + (strength − 1) s u.

    u is one random unit vector a head and s the root mean square over sequences of ‖o_k − μ‖: the size of what I2 adds,
    without any variance.
    """

    def edited(self, layer, index, own):
        if self.moments is None:
            deviation = own - self._mean(layer, index, own)
            spread = deviation.square().sum(dim=-1).mean(dim=0).sqrt()
        else:
            spread = self.moments.spread[layer][index].to(own)  # (G,)
        return own + (self.strength - 1) * spread.unsqueeze(-1) * self._directions(layer, index, own)


class ShuffledDeviations(VectorEdit):
    """Control of I2: o'_k of sequence n is μ + strength · (o_k of sequence n + 1 − μ): the variance of I2, wrong content.

    The batch's last sequence takes that of its first.
    """

    across = 2

    def __init__(self, *, layers, positions, strength: float = 1.0, site="value_aggregation", moments=None):
        super().__init__(layers=layers, positions=positions, site=site)
        _check_finite(strength)
        self.strength, self.moments = strength, moments

    @property
    def needs_moments(self) -> bool:
        return self.strength != 1

    def edited(self, layer, index, own):
        other = own.roll(-1, dims=0)
        if self.strength == 1:
            return other
        return other + (self.strength - 1) * (other - self._mean(layer, index, own))


class ValueAveraging(VectorEdit):
    """Necessity: o'_k is the mean of the aggregations at k of ``count`` sequences of the batch, its own among them.

    At position 0, where o_0 = v_0, this is what a position would have that attends evenly to ``count`` value vectors of
    first tokens: position 0 averages like the others.
    """

    def __init__(self, *, layers, positions, count: int, site="value_aggregation"):
        super().__init__(layers=layers, positions=positions, site=site)
        self.across = int(count)

    @property
    def changes_nothing(self) -> bool:
        return super().changes_nothing or self.across == 1

    def edited(self, layer, index, own):
        return torch.stack([own.roll(-i, dims=0) for i in range(self.across)]).mean(dim=0)


class NeuronAblation(VectorEdit):
    """Necessity: FFN neurons are silent at the positions.

    Args:
        neurons: layer → numbers of its neurons.
        positions: where.
    """

    def __init__(self, *, neurons: Mapping[int, Sequence[int]], positions):
        super().__init__(layers=list(neurons), positions=positions, site="ffn_activation")
        self.neurons = {layer: list(numbers) for layer, numbers in neurons.items()}

    def edited(self, layer, index, own):
        return own.index_fill(-1, torch.tensor(self.neurons[layer], device=own.device), 0)


class DimReplacement(VectorEdit):
    """Necessity: dims of the residual leaving a layer are set to their mean over sequences, or to 0 (Sun et al. 2024, §3).

    Args:
        dims: layer → numbers of its dims.
        positions: where.
        to: "mean" or "zero".
        moments: the means; without it that of the running batch is taken.
    """

    def __init__(self, *, dims: Mapping[int, Sequence[int]], positions, to: str = "mean", moments=None):
        super().__init__(layers=list(dims), positions=positions, site="residual")
        self.dims = {layer: list(numbers) for layer, numbers in dims.items()}
        self.to, self.moments = to, moments

    @property
    def needs_moments(self) -> bool:
        return self.to == "mean"

    def edited(self, layer, index, own):
        dims = torch.tensor(self.dims[layer], device=own.device)
        if self.to == "zero":
            return own.index_fill(-1, dims, 0)
        mean = self._mean(layer, index, own).expand_as(own)
        return own.index_copy(-1, dims, mean.index_select(-1, dims))


def _check_finite(*factors: float | Mapping[int, float]) -> None:
    for factor in factors:
        for value in factor.values() if isinstance(factor, Mapping) else [factor]:
            if not np.isfinite(value):
                raise SinkoriginError(f"a strength is {value}; choose a finite number")


def check_layers(layers: Sequence[int], count: int, model: str, key: str = "layers") -> None:
    """Raise a SinkoriginError when a layer is not one of 0 … count − 1."""
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong:
        raise SinkoriginError(
            f"{key} has layer {wrong[0]}, but model {model} has {count} layers, 0 to {count - 1}; "
            "choose layers in that range"
        )


def layer_text(layers: Sequence[int]) -> str:
    """Layers as runs: [0, 1, 2, 5] → "0-2,5"."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
