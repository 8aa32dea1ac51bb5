"""Secondary sinks: positions other than 0 that attract attention, found by a rule and named by their token."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.activations.columns import POSITIONS
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.disparity import is_massive
from sinkorigin.statistics.grids import from_rows, read_layers, to_table
from sinkorigin.statistics.shared_columns import KEYS, LAYER_KEYS, estimate
from sinkorigin.statistics.uniform import SINK_FACTOR, uniform_score

SECONDARY_SINKS_SCHEMA = tables.schema(
    **KEYS,
    token=(pa.string(), "the token at that position, as the tokenizer writes it"),
    candidates=(pa.int32(), f"positions in 1 … T/2 of all sequences that hold it, up to {POSITIONS - 1}"),
    sinks=(pa.int32(), "how many of these are a sink in at least one layer"),
    share=(pa.float64(), "sinks / candidates"),
    layers=(pa.float64(), "mean over these sinks of the number of layers in which they are one"),
    first_layer=(pa.int32(), "first layer in which one of them is"),
    last_layer=(pa.int32(), "last layer in which one of them is"),
    score=(pa.float64(), "mean over these sinks of their largest score over layers"),
    massive=(pa.float64(), "share of these sinks with a massive activation in some layer; null where there is no sink"),
)

SECONDARY_BY_LAYER_SCHEMA = tables.schema(
    **LAYER_KEYS,
    candidates=(pa.int32(), f"positions in 1 … T/2 of all sequences, up to {POSITIONS - 1}"),
    sinks=(pa.int32(), "how many of these are a sink in this layer"),
    **estimate("share", "sinks / candidates"),
)

TABLES = {"secondary_sinks": SECONDARY_SINKS_SCHEMA, "secondary_sinks_by_layer": SECONDARY_BY_LAYER_SCHEMA}


def compute(inputs: Mapping[str, str], *, model: str, prompts: str, resampling: Resampling) -> dict[str, pa.Table]:
    """Sinks at positions other than 0, found by a rule and named by the token that stands there.

    Position k >= 1 of a sequence is a sink in a layer when its score over q > k, mean over heads, is more than
    ``SINK_FACTOR`` times the score that uniform attention would give k. Positions of the second half are left out:
    few queries see them, and these attend to what is near.

    Args:
        inputs: paths of ``scores`` (the attention scores), ``prompts`` (the tokens) and ``magnitudes`` (the residual
            stream's largest activations).
        model, prompts: names, for the first columns.
        resampling: how intervals resample the sequences.

    Returns:
        ``secondary_sinks`` (``SECONDARY_SINKS_SCHEMA``, the tokens with most sinks first) and
        ``secondary_sinks_by_layer`` (``SECONDARY_BY_LAYER_SCHEMA``).
    """
    names = {"model": model, "prompts": prompts}
    texts = pl.DataFrame(tables.read_table(inputs["prompts"], ["tokens"]))["tokens"].to_list()
    tokens = np.array(texts, dtype=object)  # (N, T)
    length = tokens.shape[1]
    positions = np.arange(1, length // 2 + 1)[: POSITIONS - 1]  # those that the tables have
    uniform = np.array([uniform_score(int(k), length) for k in positions])
    tokens = tokens[:, positions]
    layers, found, strongest, by_layer = [], [], np.zeros(tokens.shape), []
    for layer, points, columns in read_layers(
        inputs["scores"], axes=("sequence", "head", "position"), columns=("score_excluding_self",)
    ):
        score = columns["score_excluding_self"].mean(axis=1)[:, np.isin(points["position"], positions)]  # (N, T/2)
        sink = score > SINK_FACTOR * uniform
        strongest = np.maximum(strongest, score)
        layers.append(layer)
        found.append(sink)
        by_layer.append(
            to_table(
                SECONDARY_BY_LAYER_SCHEMA,
                **names,
                layer=[layer],
                candidates=sink.size,
                sinks=sink.sum(),
                **resampling.with_interval("share", resampling.means(sink.mean(axis=1))),
            )
        )
    sinks = np.stack(found)  # (L, N, T/2)
    somewhere = sinks.any(axis=0)
    massive = np.zeros(tokens.shape, dtype=bool)
    for _, _, columns in read_layers(
        inputs["magnitudes"], axes=("sequence", "position"), columns=("max_abs", "hidden_median"), site="residual"
    ):
        massive |= is_massive(columns["max_abs"], columns["hidden_median"])[:, positions]
    rows = []
    for token in sorted(set(tokens[somewhere])):
        here = tokens == token
        found_here = here & somewhere
        in_layers = sinks[:, found_here]  # (L, sinks)
        where = np.flatnonzero(in_layers.any(axis=1))
        rows.append(
            {
                **names,
                "token": token,
                "candidates": int(here.sum()),
                "sinks": int(found_here.sum()),
                "share": found_here.sum() / here.sum(),
                "layers": in_layers.sum(axis=0).mean(),
                "first_layer": layers[where[0]],
                "last_layer": layers[where[-1]],
                "score": strongest[found_here].mean(),
                "massive": massive[found_here].mean(),
            }
        )
    rows.sort(key=lambda row: (-row["sinks"], -row["share"], row["token"]))
    return {
        "secondary_sinks": from_rows(SECONDARY_SINKS_SCHEMA, rows),
        "secondary_sinks_by_layer": pa.concat_tables(by_layer),
    }
