"""How much of what an edit does goes through each link of the chain, and what position 0 and another one can exchange.

A *patch* puts vectors that one pass had at a position into another pass. Restoring: an edit makes position k a sink, and a mediator of
it (its attention output, its super neurons, …) gets the value that it has without the edit; what is left of the effect did not go
through the mediator. Inserting: the unedited pass gets the mediator's value under the edit; what that makes of the effect went through
it (Vig et al. 2020, "Causal mediation analysis"; Meng et al. 2022). Interchange: position k gets what position 0 has in the same pass,
and the other way round (Geiger et al. 2021).

Every pass is whole, so that any site of any model can be patched.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from sinkorigin.errors import NotApplicableError
from sinkorigin.interventions.context import EditTap, applied, place_of
from sinkorigin.sites.architecture import Architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.sites.modules import first_tensor, replace_first_tensor

EMBEDDING = "embedding"  # the residual stream that enters the first layer
_IN_ATTENTION = ("value_aggregation", "key")

See = Callable[[int, Tensor], Tensor | None]


@dataclass(frozen=True)
class Mediator:
    """A link of the chain at one position.

    Attributes:
        name: how tables call it.
        site: a word of docs/science.md, or "embedding".
        layers: where it is; [0] for the embedding.
        numbers: layer → the dims or neurons of the site that belong to it; None takes whole vectors.
    """

    name: str
    site: str
    layers: Sequence[int]
    numbers: Mapping[int, Sequence[int]] | None = None


@dataclass(frozen=True)
class Scores:
    """What one pass of N sequences shows, mean over heads and layers.

    Attributes:
        score: (N,) attention weight on the target over later queries.
        first_score, second_score: (N,) weight on positions 0 and 1 over later queries.
    """

    score: Tensor
    first_score: Tensor
    second_score: Tensor


class _AttentionSee(Tap):
    """Sees one position's value aggregation or key in some layers."""

    def __init__(self, site: str, layers: Sequence[int], position: int, see: See):
        self._site, self._layers, self._position, self._see = site, set(layers), position, see

    def _edited(self, site: str, layer: int, values: Tensor) -> Tensor:
        if site != self._site or layer not in self._layers:
            return values
        new = self._see(layer, values[:, :, self._position].flatten(1))  # (N, H · d_k)
        if new is not None:
            values = values.clone()
            values[:, :, self._position] = new.reshape(values[:, :, self._position].shape)
        return values

    def edit_keys(self, layer, keys, offset):
        return self._edited("key", layer, keys)

    def edit_aggregation(self, layer, aggregation, offset):
        return self._edited("value_aggregation", layer, aggregation)


@contextmanager
def at_position(
    architecture: Architecture, site: str, layers: Sequence[int], position: int, length: int, see: See
) -> Iterator[None]:
    """Call ``see(layer, (N, w) vectors)`` with what a site holds at a position in whole passes; what it returns takes their place.

    Raises:
        NotApplicableError: the model's keys cannot be replaced, because its class has its own attention.
        SinkoriginError: a layer does not have the site.
    """

    def in_module(layer: int) -> Callable[[Tensor], Tensor | None]:
        def change(values: Tensor) -> Tensor | None:
            rows = values.reshape(-1, length, values.shape[-1])  # some FFNs flatten N and T
            new = see(layer, rows[:, position])
            if new is None:
                return None
            rows = rows.clone()
            rows[:, position] = new
            return rows.reshape(values.shape)

        return change

    if site == "key" and architecture.eager:
        raise NotApplicableError(
            f"{type(architecture.model).__name__} has its own attention, inside which keys are not replaced"
        )
    with ExitStack() as stack:
        if site in _IN_ATTENTION:
            stack.enter_context(architecture.tapped(_AttentionSee(site, layers, position, see)))
        elif site == EMBEDDING:
            entering = in_module(0)

            def before(module, args, kwargs):
                old = first_tensor(args, kwargs)
                assert old is not None
                new = entering(old)
                return None if new is None else replace_first_tensor(args, kwargs, new)

            stack.enter_context(architecture.blocks[0].register_forward_pre_hook(before, with_kwargs=True))
        else:
            for layer in layers:
                stack.enter_context(place_of(architecture, layer, site).hook(in_module(layer)))
        yield


class _Attention(Tap):
    """Adds up the attention on the target and on positions 0 and 1."""

    def __init__(self, target: int):
        self._positions = (target, 0, 1)
        self._seen: list[list[Tensor]] = []

    def observe(self, layer, query, key, weights, aggregation):
        wide = weights.float()
        self._seen.append([wide[:, :, k + 1 :, k].mean(dim=(1, 2)) for k in self._positions])

    def scores(self) -> Scores:
        return Scores(*(torch.stack(layers).mean(dim=0).cpu() for layers in zip(*self._seen, strict=True)))


@dataclass(frozen=True)
class Patch:
    """Vectors that go into a pass.

    Attributes:
        mediator: where.
        position: at which position.
        values: layer → (N, w) vectors.
    """

    mediator: Mediator
    position: int
    values: Mapping[int, Tensor]

    def see(self, layer: int, vectors: Tensor) -> Tensor:
        """The vectors that take the place of a layer's."""
        numbers = None if self.mediator.numbers is None else list(self.mediator.numbers[layer])
        if numbers is None:
            return self.values[layer].to(vectors).expand_as(vectors)
        vectors, values = vectors.clone(), self.values[layer].to(vectors)
        vectors[:, numbers] = values[:, numbers] if values.ndim else values
        return vectors


def run(
    architecture: Architecture,
    token_ids: Tensor,
    *,
    target: int,
    cause: EditTap | None = None,
    patches: Sequence[Patch] = (),
    record: Sequence[tuple[Mediator, int]] = (),
) -> tuple[Scores, dict[tuple[str, int], dict[int, Tensor]]]:
    """One whole pass of (N, T) ids.

    Args:
        target: position whose attention is read.
        cause: an edit.
        patches: vectors put in, after the edit where both change a site.
        record: mediators and positions whose vectors are kept, as they are after the edit and the patches.

    Returns:
        What it shows; and (name of the mediator, position) → layer → (N, w) vectors.
    """
    length = token_ids.shape[1]
    kept: dict[tuple[str, int], dict[int, Tensor]] = {(one.name, position): {} for one, position in record}
    attention = _Attention(target)

    def keeper(place: dict[int, Tensor]) -> See:
        def see(layer: int, vectors: Tensor) -> None:
            place[layer] = vectors.clone()

        return see

    with ExitStack() as stack:
        if cause is not None:
            stack.enter_context(applied(architecture, cause))
        for patch in patches:
            stack.enter_context(
                at_position(architecture, patch.mediator.site, patch.mediator.layers, patch.position, length, patch.see)
            )
        for one, position in record:
            see = keeper(kept[one.name, position])
            stack.enter_context(at_position(architecture, one.site, one.layers, position, length, see))
        stack.enter_context(architecture.tapped(attention))
        architecture.forward(token_ids)
    return attention.scores(), kept
