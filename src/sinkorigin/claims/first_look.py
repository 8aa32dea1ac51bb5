"""The first look in words: ten lines of what the chain's tables say of one model on one prompt set. It judges nothing."""

from collections.abc import Iterator

import polars as pl

from sinkorigin.interventions.kind import BASELINE, SHOWN_POSITION, kind_named
from sinkorigin.interventions.schemas import layer_runs


def lines(
    label: str,
    *,
    variance_trend: pl.DataFrame,
    norm_changes: pl.DataFrame,
    norm_ratio: pl.DataFrame,
    super_neurons: pl.DataFrame,
    disparity_by_layer: pl.DataFrame,
    key_collapse: pl.DataFrame,
    sink_mass: pl.DataFrame,
    sink_onset: pl.DataFrame,
    first_look: pl.DataFrame,
) -> Iterator[str]:
    """One line a link of the chain, and one an edit of a later position; intervals are 95 % bootstrap intervals over sequences.

    Args:
        label: what the model is called.
        first_look: rows of the table ``interventions``, of one position or several.
    """
    mass = sink_mass.sort("mass", descending=True, nulls_last=True).row(0, named=True)
    yield f"{label}: first look at {sink_mass['prompts'][0].replace('_', ' ')}"
    yield _variance(variance_trend)
    yield _surges(norm_changes, norm_ratio)
    yield _neurons(super_neurons)
    yield _disparity(disparity_by_layer)
    yield _key(key_collapse, mass["layer"])
    begins = sink_onset["layer"][0]
    onset = (
        f"begins at layer {begins}" if begins is not None else f"none: no layer passes {sink_onset['threshold'][0]:g}"
    )
    yield (
        f"sink: {onset}; at most {_with_ends(mass, 'mass')} of the attention, in layer {mass['layer']} (uniform attention: "
        f"{mass['uniform']:.3f})"
    )
    yield from _edits(first_look)


def shown_edits(edits: pl.DataFrame) -> list[dict]:
    """Rows of the edits at the position that the first look shows: the one nearest to the paper's that most edits have.

    There are none where the model allows no edit of one position.
    """
    alone = edits.filter((pl.col("kind") != BASELINE) & (pl.col("positions").list.len() == 1))
    count = dict(alone.group_by("target").len().rows())
    target = min(count, key=lambda k: (-count[k], abs(k - SHOWN_POSITION)), default=None)
    return alone.filter(pl.col("target") == target).to_dicts()


def _with_ends(row: dict, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:.3g}" + ("" if low is None else f" [{low:.3g}, {high:.3g}]")


def _listed(numbers: list) -> str:
    return ", ".join(map(str, numbers))


def _variance(trend: pl.DataFrame) -> str:
    rows = trend.filter((pl.col("layer") == 0) & (pl.col("site") == "value_aggregation")).to_dicts()
    if not rows or rows[0]["ratio"] is None:
        why = rows[0]["not_applicable"] if rows else "this site was not kept"
        return f"variance: not applicable: {why}"
    return f"variance: layer 0's value aggregation varies {_with_ends(rows[0], 'ratio')} times as much at position 0 as later"


def _surges(changes: pl.DataFrame, ratio: pl.DataFrame) -> str:
    rises = changes.filter(pl.col("kind") == "rise").sort("layer")["layer"].to_list()
    peak = ratio.filter(pl.col("site") == "residual").sort("ratio", descending=True).row(0, named=True)
    largest = (
        f"the first token's norm is at most {_with_ends(peak, 'ratio')} times the others', after layer {peak['layer']}"
    )
    surges = f"surges at layer{'s' if len(rises) > 1 else ''} {_listed(rises)}" if rises else "no surge"
    return f"norm: {surges}; {largest}"


def _neurons(neurons: pl.DataFrame) -> str:
    known = neurons.drop_nulls("neuron")
    if known.is_empty():
        return f"super neurons: not applicable: {neurons['not_applicable'][0]}"
    raising = known.filter(pl.col("super_neuron") & (pl.col("norm_change") > 0)).sort("norm_change", descending=True)
    if raising.is_empty():
        return "super neurons: none that raises the first token's norm"
    top = raising.row(0, named=True)
    names = _listed([f"{layer}.{neuron}" for layer, neuron in raising.head(3).select("layer", "neuron").rows()])
    return (
        f"super neurons: {len(raising)} raise its norm, first {names} (layer.neuron); the first carries "
        f"{_with_ends(top, 'share')} of its layer's FFN output"
    )


def _disparity(disparity: pl.DataFrame) -> str:
    rows = disparity.filter(pl.col("site") == "residual").drop_nulls("first").sort("first", descending=True)
    top = rows.row(0, named=True)
    return (
        f"disparity: the first token's largest dim is {_with_ends(top, 'first')} times its mean dim after layer {top['layer']}, "
        f"the others' {_with_ends(top, 'rest')}"
    )


def _key(keys: pl.DataFrame, layer: int) -> str:
    rows = keys.filter((pl.col("layer") == layer) & pl.col("head").is_null()).to_dicts()
    if not rows or rows[0]["between_sequences"] is None:
        why = (rows[0]["not_applicable"] if rows else None) or "it was not measured"
        return f"key: not applicable: {why}"
    return (
        f"key: in layer {layer}, where the sink is strongest, the first token's keys have a cosine of "
        f"{_with_ends(rows[0], 'between_sequences')} between sequences"
    )


def _edits(edits: pl.DataFrame) -> Iterator[str]:
    rows = shown_edits(edits)
    if not rows:
        yield "edits: not applicable, see the table of resolved interventions"
    for row in rows:
        kind = kind_named(row["kind"])
        what = ", ".join(filter(None, (kind.label, kind.strength_text(row["strength"], row["mean_factor"]))))
        yield (
            f"{what}, at position {row['target']} in layers {_listed(layer_runs(row['layers']))}: it gets {_with_ends(row, 'score')} of the "
            f"attention (unedited {row['baseline']:.3g}, uniform {row['uniform']:.3g})"
        )
