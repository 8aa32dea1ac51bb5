"""S3, the single super weight: the one weight of a down-projection between the spike that enters it and the one that leaves it."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.grids import from_rows, read_layers
from sinkorigin.statistics.missing_parts import layers_with
from sinkorigin.statistics.shared_columns import LAYER_KEYS, NOT_APPLICABLE, estimate

SUPER_WEIGHT_SCHEMA = tables.schema(
    **LAYER_KEYS,
    place=(
        pa.int32(),
        "place of the layer by its spike |output|, largest first; null where it has no down-projection to show",
    ),
    neuron=(pa.int32(), "neuron n of the spike that enters: largest mean |activation| at position 0"),
    dim=(pa.int32(), "dim c of the spike that leaves: largest mean |output of the down-projection| at position 0"),
    weight=(pa.float64(), "weight W_down[c, n]"),
    weight_rank=(pa.int64(), "1 + number of weights of this W_down that are larger in magnitude"),
    weights=(pa.int64(), "number of its weights"),
    weight_ratio=(pa.float64(), "|weight| / their mean magnitude"),
    **estimate("activation", "mean over sequences of the activation of n at position 0"),
    activation_ratio=(pa.float64(), "mean |activation| of n / mean over all neurons"),
    **estimate("output", "mean over sequences of the output in dim c at position 0, without a bias"),
    output_ratio=(pa.float64(), "mean |output| in c / mean over all dims"),
    **estimate("share", "share of the output spike that the weight gives alone; the other neurons and it add to 1"),
    **estimate("agreement", "share of the sequences whose own largest activation and output are those of n and c"),
    not_applicable=NOT_APPLICABLE,
)

TABLES = {"super_weight": SUPER_WEIGHT_SCHEMA}

_COLUMNS = (
    "neuron", "dim", "weight", "weight_rank", "weights", "mean_abs_weight", "activation", "mean_abs_activation",
    "output", "mean_abs_output", "largest_neuron", "largest_dim",
)  # fmt: skip


def compute(inputs: Mapping[str, str], *, model: str, prompts: str, resampling: Resampling) -> dict[str, pa.Table]:
    """Candidates for the single super weight (Yu et al. 2024, "The Super Weight in Large Language Models"), one a layer.

    They take the weight between the largest entry of the input and that of the output of a down-projection, where both spike. Here
    the spikes are those of position 0. With activation a_n, output o_c and w = W_down[c, n], the share of the spike is
    Σ a_n w o_c / Σ o_c² over sequences. Nothing says that a candidate is a super weight: where there is one, its layer has place 1, its
    share is near 1, and all sequences agree on it.

    Args:
        inputs: paths of ``down_projection_spikes`` and ``architecture``, tables of the extraction.
        model, prompts: names, for the first columns.
        resampling: how intervals resample the sequences.

    Returns:
        ``super_weight``: L rows of ``SUPER_WEIGHT_SCHEMA``; activations and outputs are in the model's own units.
    """
    names = {"model": model, "prompts": prompts}
    layers = layers_with(inputs["architecture"], "down")
    empty = dict.fromkeys(SUPER_WEIGHT_SCHEMA.names)
    rows = {layer: empty | names | {"layer": layer, "not_applicable": why} for layer, why in layers.lacking.items()}
    spikes: dict[int, float] = {}
    for layer, _, columns in read_layers(inputs["down_projection_spikes"], axes=("sequence",), columns=_COLUMNS):
        rows[layer] = empty | names | {"layer": layer} | _candidate(columns, resampling)
        spikes[layer] = float(np.abs(columns["output"]).mean())
    for place, layer in enumerate(sorted(spikes, key=lambda layer: (-spikes[layer], layer)), start=1):
        rows[layer]["place"] = place
    return {"super_weight": from_rows(SUPER_WEIGHT_SCHEMA, [rows[layer] for layer in sorted(rows)])}


def _candidate(columns: Mapping[str, np.ndarray], resampling: Resampling) -> dict:
    """Columns of one layer's candidate from (N,) values of each sequence."""
    weight, activation, output = columns["weight"][0], columns["activation"], columns["output"]
    draws = resampling.weights(len(output))
    agrees = (columns["largest_neuron"] == columns["neuron"]) & (columns["largest_dim"] == columns["dim"])
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "neuron": int(columns["neuron"][0]),
            "dim": int(columns["dim"][0]),
            "weight": weight,
            "weight_rank": int(columns["weight_rank"][0]),
            "weights": int(columns["weights"][0]),
            "weight_ratio": abs(weight) / columns["mean_abs_weight"][0],
            "activation_ratio": np.abs(activation).mean() / columns["mean_abs_activation"].mean(),
            "output_ratio": np.abs(output).mean() / columns["mean_abs_output"].mean(),
        }
        one = np.ones(len(output))
        for name, above, below in (
            ("activation", activation, one),
            ("output", output, one),
            ("share", activation * weight * output, np.square(output)),
            ("agreement", agrees.astype(np.float64), one),
        ):
            low, high = resampling.interval((draws @ above) / (draws @ below))
            found |= {name: above.mean() / below.mean(), f"{name}_low": low, f"{name}_high": high}
    return found
