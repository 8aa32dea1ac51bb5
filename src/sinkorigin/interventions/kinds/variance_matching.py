"""The variance at a position becomes that of the later positions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sinkorigin.errors import NotApplicableError
from sinkorigin.interventions.kind import Needs, VectorEdit


@dataclass(kw_only=True, eq=False)
class VarianceMatching(VectorEdit):
    """Necessity: o'_k = o_k + (λ − 1)(o_k − μ) with, in each layer, the λ that lowers the variance at k to that of others.

    ``strengths`` is layer → its λ. Of a model, a layer whose variance at k is the lower one already is left as it is: λ never amplifies.
    """

    strengths: Mapping[int, float]
    layers: Sequence[int] = field(init=False)

    formula = "o_k + (λ − 1)(o_k − μ), in each layer λ = √(mean variance of later positions / variance at k), where that is below 1"
    role = "necessity"
    takes_mean = True
    needs = Needs("variance", ("site", "layer", "position", "variance"), "strengths", one_position=True)

    @classmethod
    def at_first(cls, strength, mean_factor, to):
        return "with deviations shrunk to the variance that later positions have unedited", False

    @classmethod
    def found(cls, table, layers, position):
        """Layer → √(mean variance of the later positions / variance at ``position``), both of the unedited model, where it is below 1.

        In the first edited layer the match is exact; the edit there changes what the next hold.

        Raises:
            NotApplicableError: a layer's variance is not defined, or 0 (one first token in every sequence, for instance); or in no layer
                is that of the later positions lower.
        """
        table = table.filter(site="value_aggregation")
        strengths = {}
        for layer in layers:
            rows = table.filter(layer=layer)
            here = rows.filter(position=position)["variance"].to_list()
            later = rows.filter(rows["position"] > position)["variance"].mean()
            if not here or not here[0] or later is None:  # a variance of 0 cannot be scaled to another one
                raise NotApplicableError(
                    f"the value aggregation of layer {layer} has no variance over sequences at position {position}"
                )
            strengths[layer] = float((later / here[0]) ** 0.5)
        lower = {layer: strength for layer, strength in strengths.items() if strength < 1}
        if not lower:
            named = ", ".join(f"{strength:.2f} in layer {layer}" for layer, strength in strengths.items())
            raise NotApplicableError(
                f"the variance at position {position} is not above that of later positions in any edited layer (λ would be {named}), so "
                "there is none to take away"
            )
        return lower

    @classmethod
    def described(cls, facts):
        return "λ = " + ", ".join(f"{strength:.3g} in layer {layer}" for layer, strength in sorted(facts.items()))

    def edited(self, vectors, at):
        return vectors + (self.strengths[at.layer] - 1) * (vectors - self.mean(vectors, at))
