"""FFN neurons are silent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sinkorigin.errors import NotApplicableError
from sinkorigin.interventions.kind import Needs, VectorEdit


@dataclass(kw_only=True, eq=False)
class SuperNeuronAblation(VectorEdit):
    """Necessity: FFN neurons, layer → numbers of its neurons, are silent at the positions."""

    neurons: Mapping[int, Sequence[int]]
    layers: Sequence[int] = field(init=False)
    site: str = field(default="ffn_activation", init=False)

    formula = "the layer's super neurons are silent at k"
    role = "necessity"
    needs = Needs("super_neurons", ("layer", "neuron", "super_neuron"), "neurons", finds_layers=True)

    @classmethod
    def at_first(cls, strength, mean_factor, to):
        return "without its super neurons", False

    @classmethod
    def found(cls, table, layers, position):
        """Layer → its super neurons by the rule, in all layers or some.

        Raises:
            NotApplicableError: there is none.
        """
        found: dict[int, list[int]] = {}
        for layer, neuron in table.filter(super_neuron=True).select("layer", "neuron").sort("layer", "neuron").rows():
            if layers is None or layer in layers:
                found.setdefault(layer, []).append(neuron)
        if not found:
            where = "" if layers is None else f" in layers {', '.join(map(str, layers))}"
            raise NotApplicableError(f"no super neuron was found{where}")
        return found

    def numbers(self, layer):
        return self.neurons[layer]

    def edited(self, vectors, at):
        vectors = vectors.clone()
        vectors[..., self.neurons[at.layer]] = 0
        return vectors
