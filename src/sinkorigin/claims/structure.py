"""Claims about the links between variance and sink: W_O, super neurons, massive activations, keys and queries."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from sinkorigin.claims.verdicts import NOT_SEEN, PAPER_EPSILON, StudyTables, decided, with_ends

# Criteria of this project, where the paper gives none.
MOST = 0.5  # share that is "most of" a quantity
SAME_DIRECTION = 0.9  # cosine of keys that count as one direction
NO_DIRECTION = 0.5  # cosine of keys that do not
FEW_DIMS = 3.0  # participation ratio of a vector that lands in one or two dims
OUTLYING = 0.99  # share of the layer's neurons with a smaller norm
FOLLOWS = 1  # layers after a rise of the norm in which the sink's rise still follows it


def structure_claims(tables: StudyTables) -> Iterator[dict]:
    """Claims about one model on one prompt set."""
    yield from _through_output(tables)
    yield from _super_neurons(tables)
    yield from _massive(tables)
    yield from _keys(tables)
    yield from _queries(tables)
    yield from _follows(tables)
    yield from _secondary(tables)


def _certain(value: float | None, holds, reason: str | None = None) -> dict:
    """Verdict on a value without sampling error: of weights, or counted by a rule that already takes whole intervals."""
    return decided(value, value, value, holds, reason)


def _through_output(tables: StudyTables) -> Iterator[dict]:
    table = tables.read("variance_through_output")
    if table is None:
        return
    for claim, words, column, paper in (
        ("W_O keeps std by dim", "(a) dims of larger std have larger columns in W_O", "dim_tau", "mean τ = 0.32"),
        ("W_O keeps order", "(b) W_O keeps the order of the positions' variances", "position_tau", None),
    ):
        rows = table.drop_nulls(column)
        value, low, high = (part.mean() for part in with_ends(rows, column))
        reason = None
        if len(rows):
            by_layer = rows[column].to_numpy()
            reason = f"by layer from {by_layer.min():.2f} to {by_layer.max():.2f}"
            reason = "; ".join([reason, *rows["not_applicable"].drop_nulls().unique(maintain_order=True)])
        elif len(table):
            reason = table["not_applicable"][0]
        yield tables.row(
            claim, tables.model.prefix + words, "Kendall's τ, mean over layers (and of the ends of its intervals)",
            None if tables.model.is_control else paper, "> 0", "variance_through_output",
            **decided(value, low, high, lambda x: x > 0, reason),
        )  # fmt: skip


def _super_neurons(tables: StudyTables) -> Iterator[dict]:
    table = tables.read("super_neurons")
    if table is None:
        return
    known = table.drop_nulls("neuron")
    chosen = known.filter(pl.col("super_neuron"))
    missing = None if len(known) else table["not_applicable"][0]
    if tables.model.is_control:
        yield tables.row(
            "no super neuron", "control: random weights have no super neuron", "number of super neurons", None, "= 0", "super_neurons",
            **_certain(float(len(chosen)) if len(known) else None, lambda x: x == 0, missing),
        )  # fmt: skip
        return
    raising = chosen.drop_nulls("surge_share").filter(pl.col("norm_change") > 0)
    surging = raising.sort("norm_change", descending=True)
    statement = "one neuron that fires for the first token alone carries most of a surge of its norm"
    quantity = "what the norm loses without it / what its layer adds"
    paper = "a few neurons, such as 7890"
    if missing or surging.is_empty():
        reason = (
            missing or f"{len(chosen)} neurons pass the rule, none of them raises the norm in a layer that doubles it"
        )
        found = decided(None, None, None, bool, reason) | ({} if missing else {"verdict": NOT_SEEN})
        yield tables.row("super neuron", statement, quantity, paper, f"> {MOST:g}", "super_neurons", **found)
        return
    top = surging.to_dicts()[0]
    cosines = ""
    if top["gate_cosine_first"] is not None:
        cosines = f", cosine with its gate weights {top['gate_cosine_first']:.2f} against {top['gate_cosine_rest']:.2f}"
    yield tables.row(
        "super neuron", statement, quantity, paper, f"> {MOST:g}", "super_neurons",
        **decided(
            *with_ends(top, "surge_share"), lambda x: x > MOST,
            f"layer {top['layer']}, neuron {top['neuron']}: magnitude {top['first']:.4g} at position 0 against "
            f"{top['rest']:.3g} elsewhere{cosines}; {len(chosen)} neurons pass the rule",
        ),
    )  # fmt: skip
    name = f"layer {top['layer']}, neuron {top['neuron']}"
    yield tables.row(
        "super neurons write the dominating dim",
        "the super neurons that make a surge write the dim that dominates the first token",
        "share of these neurons with that dim among their two largest", "dims 2533 and 1415",
        "= 1", "super_neurons",
        **_certain(
            float(surging["hits_dominant_dim"].to_numpy().mean()), lambda x: x == 1,
            "; ".join(
                f"{r['layer']}.{r['neuron']}: dims {r['dim_1']}, {r['dim_2']}, dominating {r['dominant_dim']}"
                for r in surging.head(6).to_dicts()
            ),
        ),
    )  # fmt: skip
    sparsity = known.filter(pl.col("layer") == top["layer"])["participation_ratio"].to_numpy()
    yield tables.row(
        "channel sparsity", "that neuron's down weights land in one or two dims", "participation ratio of its down weights",
        "heavy-tailed", f"< {FEW_DIMS:g}", "super_neurons",
        **_certain(
            top["participation_ratio"], lambda x: x < FEW_DIMS,
            f"{name}; median of its layer's neurons {np.median(sparsity):.0f}",
        ),
    )  # fmt: skip
    column = "gate_norm" if top["gate_norm"] is not None else "up_norm"
    layer = known.filter(pl.col("layer") == top["layer"])[column]
    yield tables.row(
        "outlying weights", f"that neuron's {column.partition('_')[0]} weights are among the largest of its layer",
        "share of the layer's neurons with a smaller norm", "huge norm", f"> {OUTLYING:g}", "super_neurons",
        **_certain(
            float((layer < top[column]).mean()), lambda x: x > OUTLYING,
            f"{name}: {top[f'{column}_ratio']:.2f} times the median",
        ),
    )  # fmt: skip


def _massive(tables: StudyTables) -> Iterator[dict]:
    table = tables.read("massive_activations")
    if table is None:
        return
    peak = table.filter(pl.col("position") == 0).sort("share", descending=True).to_dicts()[0]
    random = tables.model.is_control
    yield tables.row(
        "no massive activations" if random else "massive activations",
        "control: random weights have no massive activations"
        if random
        else "the first token has massive activations by Sun et al.'s criterion",
        "share of the sequences, in the layer where it is largest", None,
        f"< {MOST:g}" if random else f"> {MOST:g}", "massive_activations",
        **decided(
            *with_ends(peak, "share"), (lambda x: x < MOST) if random else (lambda x: x > MOST),
            f"layer {peak['layer']}: largest magnitude {peak['max_abs']:.4g}"
            + (f", dim {peak['dim']}" if peak["dim"] is not None else ""),
        ),
    )  # fmt: skip


def _sink_layers(tables: StudyTables) -> list[dict]:
    """Rows of the sink mass, largest first; none where it was not measured."""
    mass = tables.read("sink_mass")
    return [] if mass is None else mass.sort("mass", descending=True, nulls_last=True).to_dicts()


def _keys(tables: StudyTables) -> Iterator[dict]:
    table = tables.read("key_collapse")
    masses = _sink_layers(tables)
    if table is None or not masses:
        return
    heads = {row["layer"]: row for row in table.filter(pl.col("head").is_null()).to_dicts()}
    if tables.model.is_control:
        known = [row for row in heads.values() if row["between_sequences"] is not None]
        row = max(known, key=lambda r: r["between_sequences"]) if known else next(iter(heads.values()))
        yield tables.row(
            "no fixed key", "control: in random weights the first token's key has no fixed direction",
            "cosine between sequences, mean over heads, in the layer where it is largest", None,
            f"< {NO_DIRECTION:g}", "key_collapse",
            **decided(
                *with_ends(row, "between_sequences"), lambda x: x < NO_DIRECTION,
                f"layer {row['layer']}" if known else row["not_applicable"],
            ),
        )  # fmt: skip
        return
    row = heads[masses[0]["layer"]]
    where = f"layer {row['layer']}, where the sink is strongest"
    for claim, statement, column, paper in (
        (
            "fixed key",
            "the first token's key points the same way in every sequence",
            "between_sequences",
            "one direction",
        ),
        ("key from one dim", "its key is that of its largest dim alone", "one_dim", "k_0 ≈ ±√d·γ_c·W_K[:, c]"),
        ("key from two dims", "its key is that of its two largest dims", "two_dims", None),
    ):
        course = table.filter(pl.col("head").is_null()).drop_nulls(column)
        reason = row["not_applicable"] if row[column] is None else where
        if row[column] is not None:
            with_sink = [mass["layer"] for mass in masses if mass["mass"] > PAPER_EPSILON]
            near = course.filter(pl.col("layer").is_in(with_sink))[column].to_numpy()
            if len(near):
                reason += f"; over the {len(near)} layers with sink mass > {PAPER_EPSILON:g}: {near.min():.2f} to {near.max():.2f}"
        yield tables.row(
            claim, statement, "cosine, mean over heads", paper, f"> {SAME_DIRECTION:g}", "key_collapse",
            **decided(*with_ends(row, column), lambda x: x > SAME_DIRECTION, reason),
        )  # fmt: skip


def _queries(tables: StudyTables) -> Iterator[dict]:
    table = tables.read("alignment_correlation")
    if table is None:
        return
    for row in table.to_dicts():
        words = {
            "alignment": "heads whose queries lie along the first token's key attend to it more",
            "positive_ratio": "heads with more positive scores on the first token attend to it more",
        }[row["quantity"]]
        if row["over"] == "layers":
            words = words.replace("heads", "layers", 1)
        yield tables.row(
            f"{row['quantity'].replace('_', ' ')} goes with sink, by {row['over'].removesuffix('s')}",
            tables.model.prefix + words, f"Spearman's correlation with the sink mass, over {row['count']} {row['over']}",
            None if tables.model.is_control else "aligned heads have ≈ 100 % positive scores",
            "> 0", "alignment_correlation",
            **decided(*with_ends(row, "correlation"), lambda x: x > 0),
        )  # fmt: skip


def _follows(tables: StudyTables) -> Iterator[dict]:
    norms, sinks = tables.read("norm_changes"), tables.read("sink_changes")
    if norms is None or sinks is None or tables.model.is_control:
        return
    surges = norms.filter((pl.col("kind") == "rise") & (pl.col("change_low") >= pl.col("threshold")))
    rises = sinks.filter((pl.col("kind") == "rise") & (pl.col("change_low") >= pl.col("threshold")))
    layers, sink_layers = surges["layer"].to_list(), rises["layer"].to_list()
    followed = [layer for layer in layers if any(0 <= rise - layer <= FOLLOWS for rise in sink_layers)]
    falls = norms.filter(pl.col("kind") == "fall")["layer"].to_list()
    sink_falls = sinks.filter(pl.col("kind") == "fall")["layer"].to_list()

    def listed(numbers: list) -> str:
        return ", ".join(map(str, numbers)) or "none"

    reason = (
        f"norm rises at layer {listed(layers)}, falls at {listed(falls)}; sink mass rises at {listed(sink_layers)}, "
        f"falls at {listed(sink_falls)}"
    )
    found = _certain(len(followed) / len(layers), lambda x: x == 1, reason) if layers else {"reason": reason}
    yield tables.row(
        "sink after every surge", f"after every rise of the first token's norm the sink rises within {FOLLOWS} layer",
        "share of the norm's rises that a rise of the sink mass follows", None, "= 1",
        "norm_changes", "sink_changes", **found,
    )  # fmt: skip


def _secondary(tables: StudyTables) -> Iterator[dict]:
    by_layer, by_token = tables.read("secondary_sinks_by_layer"), tables.read("secondary_sinks")
    if by_layer is None or by_token is None:
        return
    row = by_layer.sort("share", descending=True).to_dicts()[0]
    tokens = ", ".join(f"{t['token']!r} {t['sinks']} of {t['candidates']}" for t in by_token.head(4).to_dicts())
    random = tables.model.is_control
    yield tables.row(
        "no secondary sinks" if random else "secondary sinks",
        "control: random weights have no sinks at later positions" if random else "some later positions are sinks too",
        "share of the positions 1 … T/2, in the layer where it is largest", None,
        "= 0" if random else "> 0", "secondary_sinks_by_layer",
        **decided(
            *with_ends(row, "share"), (lambda x: x == 0) if random else (lambda x: x > 0),
            f"layer {row['layer']}; tokens: {tokens}" if tokens else "none in any layer",
        ),
    )  # fmt: skip
