"""FFN neurons are silent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sinkorigin.interventions import surge
from sinkorigin.interventions.kind import Needs, VectorEdit


@dataclass(kw_only=True, eq=False)
class SuperNeuronAblation(VectorEdit):
    """Necessity: FFN neurons, layer → numbers of its neurons, are silent at the positions.

    Of a model, these are the super neurons that start the surge of the first token's norm: those that raise it in the edited layers, not
    those that lower it again where the surge ends.
    """

    neurons: Mapping[int, Sequence[int]]
    layers: Sequence[int] = field(init=False)
    site: str = field(default="ffn_activation", init=False)

    formula = "the layer's super neurons that raise the norm are silent at k"
    role = "necessity"
    needs = Needs("super_neurons", surge.COLUMNS, "neurons", finds_layers=True)

    @classmethod
    def at_first(cls, strength, mean_factor, to):
        return "without the super neurons that raise its norm", False

    @classmethod
    def found(cls, table, layers, position):
        """Layer → its super neurons that raise the first token's norm, in all layers or some.

        Raises:
            NotApplicableError: there is none.
        """
        return surge.by_layer(surge.found_or_not_applicable(table, layers))

    @classmethod
    def described(cls, facts):
        return "neurons " + ", ".join(f"{layer}.{neuron}" for layer, some in sorted(facts.items()) for neuron in some)

    def numbers(self, layer):
        return self.neurons[layer]

    def edited(self, vectors, at):
        vectors = vectors.clone()
        vectors[..., self.neurons[at.layer]] = 0
        return vectors
