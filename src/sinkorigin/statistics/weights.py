"""S1, S2 and V2 from the weights alone: norms and channel sparsity of FFN neurons, and norms of the columns of W_O."""

import numpy as np
import pyarrow as pa
import torch

from sinkorigin import tables
from sinkorigin.sites.architecture import Architecture
from sinkorigin.statistics.channel_sparsity import excess_kurtosis, max_over_mean, participation_ratio, top_dims
from sinkorigin.statistics.grids import to_table
from sinkorigin.statistics.shared_columns import KEYS, LAYER

NEURONS_SCHEMA = tables.schema(
    model=KEYS["model"],
    layer=LAYER,
    neuron=(pa.int32(), "FFN neuron; null where the layer has none to show"),
    gate_norm=(pa.float64(), "Euclidean norm of its gate weights; null in an FFN without a gate"),
    up_norm=(pa.float64(), "Euclidean norm of its up weights (the only ones before the activation, without a gate)"),
    down_norm=(pa.float64(), "Euclidean norm of its down weights"),
    max_over_mean=(pa.float64(), "largest / mean magnitude of its down weights over dims"),
    excess_kurtosis=(pa.float64(), "excess kurtosis of its down weights over dims"),
    participation_ratio=(pa.float64(), "number of dims that carry its down weights, 1 … width"),
    dim_1=(pa.int32(), "residual dim with its largest down weight"),
    dim_2=(pa.int32(), "residual dim with the second"),
    dim_1_share=(pa.float64(), "share of its squared down weights in dim_1"),
    dim_2_share=(pa.float64(), "share of them in dim_2"),
    not_applicable=(pa.string(), "why the layer has no neurons to show, or the neuron no gate"),
)

OUTPUT_PROJECTION_SCHEMA = tables.schema(
    model=KEYS["model"],
    layer=LAYER,
    dim=(pa.int32(), "dim c of the value aggregation (heads concatenated); null where the layer has no W_O to show"),
    norm=(pa.float64(), "Euclidean norm of column c of W_O"),
    not_applicable=(pa.string(), "why the layer has no W_O to show"),
)


def weight_tables(architecture: Architecture, *, model: str) -> dict[str, pa.Table]:
    """``neurons`` (``NEURONS_SCHEMA``) and ``output_projection`` (``OUTPUT_PROJECTION_SCHEMA``) of the model of this name."""
    return {
        "neurons": neuron_table(architecture, model),
        "output_projection": output_projection_table(architecture, model),
    }


def neuron_table(architecture: Architecture, model: str) -> pa.Table:
    """S1 and S2 of every FFN neuron (arXiv 2605.06611, "super neurons"): a row of ``NEURONS_SCHEMA`` each."""
    parts = []
    for layer, projections in enumerate(architecture.projections):
        missing = architecture.missing[layer]
        keys = {"model": model, "layer": layer}
        if "down" not in projections:
            empty = {name: np.nan for name in NEURONS_SCHEMA.names[3:-1]} | {"dim_1": None, "dim_2": None}
            parts.append(to_table(NEURONS_SCHEMA, **keys, neuron=[None], **empty, not_applicable=missing["down"]))
            continue
        down = projections["down"].weight().T.numpy()  # (f, d)
        dims = top_dims(down)
        shares = np.take_along_axis(down, dims, axis=-1).astype(np.float64) ** 2
        shares /= (down.astype(np.float64) ** 2).sum(axis=-1, keepdims=True)
        norms = {
            role: np.linalg.norm(projections[role].weight().numpy().astype(np.float64), axis=-1)
            if role in projections
            else np.nan
            for role in ("gate", "up")
        }
        parts.append(
            to_table(
                NEURONS_SCHEMA,
                **keys,
                neuron=np.arange(len(down)),
                gate_norm=norms["gate"],
                up_norm=norms["up"],
                down_norm=np.linalg.norm(down.astype(np.float64), axis=-1),
                max_over_mean=max_over_mean(down),
                excess_kurtosis=excess_kurtosis(down),
                participation_ratio=participation_ratio(down),
                dim_1=dims[:, 0],
                dim_2=dims[:, 1],
                dim_1_share=shares[:, 0],
                dim_2_share=shares[:, 1],
                not_applicable=missing.get("gate"),
            )
        )
    return pa.concat_tables(parts)


def output_projection_table(architecture: Architecture, model: str) -> pa.Table:
    """Norm of every column of W_O, the other half of V2: a row of ``OUTPUT_PROJECTION_SCHEMA`` each."""
    parts = []
    for layer, projections in enumerate(architecture.projections):
        keys = {"model": model, "layer": layer}
        if "output" in projections:
            norms = torch.linalg.vector_norm(projections["output"].weight().double(), dim=0).numpy()
            values = {"dim": np.arange(len(norms)), "norm": norms, "not_applicable": None}
        else:
            values = {"dim": [None], "norm": np.nan, "not_applicable": architecture.missing[layer]["output"]}
        parts.append(to_table(OUTPUT_PROJECTION_SCHEMA, **keys, **values))
    return pa.concat_tables(parts)
