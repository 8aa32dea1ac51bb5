"""The tables of a sweep: one row a sequence, layer or position of an edited, or the unedited, model."""

from collections.abc import Sequence

import pyarrow as pa

from sinkorigin import tables

NUMBERS = pa.list_(pa.int32())
EDIT = {
    "intervention": (pa.string(), "name of the intervention in the config; baseline for the unedited model"),
    "kind": (pa.string(), "kind of the edit, see docs/science.md; baseline for the unedited model"),
    "strength": (pa.float64(), "lambda; 1 for kinds that have none; null for the baseline"),
    "mean_factor": (pa.float64(), "alpha, what the mean is multiplied with; null unless mean_and_deviation"),
    "site": (pa.string(), "edited site; null for the baseline"),
    "layers": (NUMBERS, "edited layers, counted from 0; none for the baseline"),
    "positions": (NUMBERS, "positions that are edited at once; for the baseline the target alone"),
}
_TARGET = (pa.int32(), "position of the readout, one of positions")
_SEQUENCE = (pa.int32(), "number of the sequence in the prompt table")
_LAYER = (pa.int32(), "layer of the readout, counted from 0")

SCHEMAS = {
    "scores": tables.schema(
        **EDIT,
        target=_TARGET,
        sequence=_SEQUENCE,
        unit=(
            pa.int32(),
            "first sequence of the group that the edit mixes with one another, which is one observation; the sequence itself where it "
            "mixes none",
        ),
        layer=_LAYER,
        head=(pa.int32(), "query head"),
        score=(pa.float32(), "mean attention weight on the target over queries q > target"),
        first_score=(pa.float32(), "mean attention weight on position 0 over queries q > 0"),
    ),
    "residuals": tables.schema(
        **EDIT,
        target=_TARGET,
        sequence=_SEQUENCE,
        layer=_LAYER,
        norm=(pa.float32(), "norm of the residual leaving the layer at the target"),
        dominance_ratio=(pa.float32(), "max / mean of its absolute values over dims"),
        key_cosine=(
            pa.float32(),
            "cosine of the target's key and that of the batch's next sequence, mean over key heads; null in a batch of one",
        ),
    ),
    "positions": tables.schema(
        **EDIT,
        layer=_LAYER,
        position=(pa.int32(), "key position j"),
        score=(
            pa.float64(),
            "mean attention weight on j over queries q > j, heads and sequences; null at the last position",
        ),
    ),
    "losses": tables.schema(
        **EDIT,
        target=(pa.int32(), "first of the edited positions: losses are read from here on"),
        sequence=_SEQUENCE,
        loss=(pa.float32(), "mean over q >= target of -log p(token q + 1), in nats"),
        baseline_loss=(pa.float32(), "loss of the unedited model there"),
        divergence=(pa.float32(), "mean over q >= target of KL(unedited || edited) of the next token, in nats"),
    ),
}


def layer_runs(layers: Sequence[int]) -> list[str]:
    """Layers as runs: [0, 1, 2, 5] → ["0-2", "5"]."""
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return [str(first) if first == last else f"{first}-{last}" for first, last in runs]
