"""The dominating dims of the residual lose their size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sinkorigin.interventions import surge
from sinkorigin.interventions.kind import Needs, VectorEdit


@dataclass(kw_only=True, eq=False)
class DominatingDims(VectorEdit):
    """Necessity: dims of the residual leaving a layer are set to their mean over sequences, or to 0 (Sun et al. 2024, §3).

    ``dims`` is layer → numbers of its dims, and ``to`` "mean" or "zero". Of a model, these are all dims that the super neurons write which
    raise the first token's norm in this layer or in an edited one below it, not the largest of them alone.
    """

    dims: Mapping[int, Sequence[int]]
    layers: Sequence[int] = field(init=False)
    site: str = field(default="residual", init=False)
    to: str = "mean"

    formula = "the dims of the residual that the super neurons which raise the norm write are set to their mean over sequences, or to zero"
    role = "necessity"
    takes_mean = True
    needs = Needs("super_neurons", surge.COLUMNS, "dims")

    @classmethod
    def at_first(cls, strength, mean_factor, to):
        to_mean = (to or cls.to) == "mean"
        return f"with its dominating dims set to {'their mean over sequences' if to_mean else 'zero'}", to_mean

    @classmethod
    def found(cls, table, layers, position):
        """Layer → the dims that super neurons write which raise the first token's norm in this layer or in one of ``layers`` below it.

        Raises:
            NotApplicableError: there is no such neuron.
        """
        found = surge.found_or_not_applicable(table, layers)
        return dict(surge.from_there_on(surge.dims_by_layer(found), layers))

    @classmethod
    def described(cls, facts):
        return "; ".join(f"dims {', '.join(map(str, dims))} in layer {layer}" for layer, dims in sorted(facts.items()))

    @property
    def needs_mean(self):
        return self.to == "mean"

    def numbers(self, layer):
        return self.dims[layer]

    def edited(self, vectors, at):
        dims = self.dims[at.layer]
        other = 0 if self.to == "zero" else self.mean(vectors, at).expand_as(vectors)[..., dims]
        vectors = vectors.clone()
        vectors[..., dims] = other
        return vectors
