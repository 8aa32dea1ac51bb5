"""What starts the surge of the first token's norm: the super neurons that raise it, and the dims that they write.

One definition for the links of the chain (:mod:`sinkorigin.interventions.chain`) and for the kinds of edits that remove them. Nothing here
imports PyTorch, because the config loads kinds too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sinkorigin.errors import NotApplicableError

if TYPE_CHECKING:
    import polars as pl

WRITTEN = 0.01  # share of its squared down weights from which a neuron writes a dim beside its first

# columns of the table of super neurons that are read
COLUMNS = (
    "layer", "neuron", "super_neuron", "norm_change", "dim_1", "dim_2", "dim_2_share", "not_applicable",
)  # fmt: skip


def starting(super_neurons: "pl.DataFrame", layers: Sequence[int] | None) -> list[dict[str, Any]]:
    """Super neurons that raise the first token's norm, not those that lower it again where the surge ends.

    Args:
        super_neurons: columns ``COLUMNS`` of all neurons. Where a norm after the FFN rescales what neurons write, no norm change is known,
            and each super neuron counts.
        layers: those where the norm surges; None takes every layer.

    Returns:
        Their rows, by layer and neuron.
    """
    rows = super_neurons.filter(super_neurons["super_neuron"].fill_null(False)).sort("layer", "neuron").to_dicts()
    raising = (row for row in rows if row["norm_change"] is None or row["norm_change"] > 0)
    return [row for row in raising if layers is None or row["layer"] in layers]


def found_or_not_applicable(super_neurons: "pl.DataFrame", layers: Sequence[int] | None) -> list[dict[str, Any]]:
    """Super neurons as :func:`starting` gives them.

    Raises:
        NotApplicableError: there is none; it says why a layer has no neurons, where none of the layers has any.
    """
    found = starting(super_neurons, layers)
    if found:
        return found
    here = super_neurons if layers is None else super_neurons.filter(super_neurons["layer"].is_in(list(layers)))
    reason = next(iter(here["not_applicable"].drop_nulls()), None) if here["super_neuron"].is_null().all() else None
    where = "" if layers is None else f" in layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
    raise NotApplicableError(reason or f"no super neuron raises the first token's norm{where}")


def written_dims(neuron: Mapping[str, Any]) -> list[int]:
    """Dims that a neuron writes: that of its largest down weight, and the second where it has a hundredth of their square or more."""
    return [neuron["dim_1"], *([neuron["dim_2"]] if neuron["dim_2_share"] >= WRITTEN else [])]


def by_layer(found: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """Layer → the numbers of the neurons of :func:`starting`."""
    neurons: dict[int, list[int]] = {}
    for row in found:
        neurons.setdefault(row["layer"], []).append(row["neuron"])
    return neurons


def dims_by_layer(found: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """Layer → the dims that the neurons of :func:`starting` write there."""
    dims: dict[int, set[int]] = {}
    for row in found:
        dims.setdefault(row["layer"], set()).update(written_dims(row))
    return {layer: sorted(some) for layer, some in dims.items()}


def from_there_on(found: Mapping[int, Sequence[int]], layers: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """What was found in a layer or in those below it, for each of these layers that has some: the residual stream keeps it."""
    for layer in layers:
        some = {number for start, numbers in found.items() if start <= layer for number in numbers}
        if some:
            yield layer, sorted(some)
