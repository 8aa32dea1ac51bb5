"""The dominating dims of the residual lose their size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sinkorigin.errors import NotApplicableError
from sinkorigin.interventions.kind import Needs, VectorEdit


@dataclass(kw_only=True, eq=False)
class DominatingDims(VectorEdit):
    """Necessity: dims of the residual leaving a layer are set to their mean over sequences, or to 0 (Sun et al. 2024, §3).

    ``dims`` is layer → numbers of its dims, and ``to`` "mean" or "zero".
    """

    dims: Mapping[int, Sequence[int]]
    layers: Sequence[int] = field(init=False)
    site: str = field(default="residual", init=False)
    to: str = "mean"

    formula = "the dim that dominates the residual leaving the layer is set to its mean over sequences, or to zero"
    role = "necessity"
    takes_mean = True
    needs = Needs("disparity", ("site", "layer", "position", "dominant_dim"), "dims", one_position=True)

    @classmethod
    def at_first(cls, strength, mean_factor, to):
        to_mean = (to or cls.to) == "mean"
        return f"with its dominating dims set to {'their mean over sequences' if to_mean else 'zero'}", to_mean

    @classmethod
    def found(cls, table, layers, position):
        """Layer → the dim of the largest magnitude in most sequences at ``position`` of the residual leaving the layer.

        Raises:
            NotApplicableError: the table has no such layer.
        """
        dims = dict(table.filter(site="residual", position=position).select("layer", "dominant_dim").rows())
        for layer in layers:
            if dims.get(layer) is None:
                raise NotApplicableError(f"no dim dominates the residual leaving layer {layer} at position {position}")
        return {layer: [dims[layer]] for layer in layers}

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
