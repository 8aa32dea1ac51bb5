"""Claims about the links between variance and sink: W_O, super neurons, massive activations, keys and queries."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from sinkorigin.claims.verdicts import NOT_SEEN, PAPER_EPSILON, Judged, StudyTables, decided, row_of

# Criteria of ours, where the paper gives none.
MOST = 0.5  # "most of" a quantity
SAME_DIRECTION = 0.9  # cosine of keys that count as one direction
NO_DIRECTION = 0.5  # and of keys that do not
FEW_DIMS = 3.0  # participation ratio of a vector that lands in one or two dims
OUTLYING = 0.99  # share of the layer's neurons with a smaller norm
FOLLOWS = 1  # layers after a rise of the norm in which the sink's rise still follows it


def of_structure(own: StudyTables, model: Judged, prompts: str) -> Iterator[dict]:
    """Claims about one model on one prompt set."""
    yield from _through_output(own, model, prompts)
    yield from _super_neurons(own, model, prompts)
    yield from _massive(own, model, prompts)
    yield from _keys(own, model, prompts)
    yield from _queries(own, model, prompts)
    yield from _follows(own, model, prompts)
    yield from _secondary(own, model, prompts)


def _certain(value: float | None, holds, reason: str | None = None) -> dict:
    """A value without sampling error: of weights, or counted by a rule that already asks for whole intervals."""
    return decided(value, value, value, holds, reason)


def _control(model: Judged) -> str:
    return "control: " if model.role == "random" else ""


def _through_output(own: StudyTables, model: Judged, prompts: str) -> Iterator[dict]:
    table = own.read("variance_through_output")
    if table is None:
        return
    for claim, words, column, paper in (
        ("W_O keeps std by dim", "(a) dims of larger std have larger columns in W_O", "dim_tau", "mean τ = 0.32"),
        ("W_O keeps order", "(b) W_O keeps the order of the positions' variances", "position_tau", None),
    ):
        rows = table.drop_nulls(column)
        value, low, high = (rows[name].mean() for name in (column, f"{column}_low", f"{column}_high"))
        reason = None
        if len(rows):
            by_layer = rows[column].to_numpy()
            reason = f"by layer from {by_layer.min():.2f} to {by_layer.max():.2f}"
        elif len(table):
            reason = table["not_applicable"][0]
        yield row_of(
            claim, _control(model) + words, "Kendall's τ, mean over layers (and of the ends of its intervals)",
            model.label, prompts, None if model.role == "random" else paper, "> 0", own.path("variance_through_output"),
            **decided(value, low, high, lambda x: x > 0, reason),
        )  # fmt: skip


def _super_neurons(own: StudyTables, model: Judged, prompts: str) -> Iterator[dict]:
    table = own.read("super_neurons")
    if table is None:
        return
    path = own.path("super_neurons")
    known = table.drop_nulls("neuron")
    chosen = known.filter(pl.col("super_neuron"))
    missing = None if len(known) else table["not_applicable"][0]
    if model.role == "random":
        yield row_of(
            "no super neuron", "control: random weights have no super neuron", "number of super neurons", model.label,
            prompts, None, "= 0", path,
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
        yield row_of(
            "super neuron", statement, quantity, model.label, prompts, paper, f"> {MOST:g}", path, **found
        )  # fmt: skip
        return
    top = surging.to_dicts()[0]
    cosines = ""
    if top["gate_cosine_first"] is not None:
        cosines = f", cosine with its gate weights {top['gate_cosine_first']:.2f} against {top['gate_cosine_rest']:.2f}"
    yield row_of(
        "super neuron", statement, quantity, model.label, prompts, paper, f"> {MOST:g}", path,
        **decided(
            top["surge_share"], top["surge_share_low"], top["surge_share_high"], lambda x: x > MOST,
            f"layer {top['layer']}, neuron {top['neuron']}: magnitude {top['first']:.4g} at position 0 against "
            f"{top['rest']:.3g} elsewhere{cosines}; {len(chosen)} neurons pass the rule",
        ),
    )  # fmt: skip
    name = f"layer {top['layer']}, neuron {top['neuron']}"
    yield row_of(
        "super neurons write the dominating dim",
        "the super neurons that make a surge write the dim that dominates the first token",
        "share of these neurons with that dim among their two largest", model.label, prompts, "dims 2533 and 1415",
        "= 1", path,
        **_certain(
            float(surging["hits_dominant_dim"].to_numpy().mean()), lambda x: x == 1,
            "; ".join(
                f"{r['layer']}.{r['neuron']}: dims {r['dim_1']}, {r['dim_2']}, dominating {r['dominant_dim']}"
                for r in surging.head(6).to_dicts()
            ),
        ),
    )  # fmt: skip
    sparsity = known.filter(pl.col("layer") == top["layer"])["participation_ratio"].to_numpy()
    yield row_of(
        "channel sparsity", "that neuron's down weights land in one or two dims", "participation ratio of its down weights",
        model.label, prompts, "heavy-tailed", f"< {FEW_DIMS:g}", path,
        **_certain(
            top["participation_ratio"], lambda x: x < FEW_DIMS,
            f"{name}; median of its layer's neurons {np.median(sparsity):.0f}",
        ),
    )  # fmt: skip
    column = "gate_norm" if top["gate_norm"] is not None else "up_norm"
    layer = known.filter(pl.col("layer") == top["layer"])[column]
    yield row_of(
        "outlying weights", f"that neuron's {column.partition('_')[0]} weights are among the largest of its layer",
        "share of the layer's neurons with a smaller norm", model.label, prompts, "huge norm", f"> {OUTLYING:g}", path,
        **_certain(
            float((layer < top[column]).mean()), lambda x: x > OUTLYING,
            f"{name}: {top[f'{column}_ratio']:.2f} times the median",
        ),
    )  # fmt: skip


def _massive(own: StudyTables, model: Judged, prompts: str) -> Iterator[dict]:
    table = own.read("massive_activations")
    if table is None:
        return
    peak = table.filter(pl.col("position") == 0).sort("share", descending=True).to_dicts()[0]
    random = model.role == "random"
    yield row_of(
        "no massive activations" if random else "massive activations",
        "control: random weights have no massive activations"
        if random
        else "the first token has massive activations by Sun et al.'s criterion",
        "share of the sequences, in the layer where it is largest", model.label, prompts, None,
        f"< {MOST:g}" if random else f"> {MOST:g}", own.path("massive_activations"),
        **decided(
            peak["share"], peak["share_low"], peak["share_high"],
            (lambda x: x < MOST) if random else (lambda x: x > MOST),
            f"layer {peak['layer']}: largest magnitude {peak['max_abs']:.4g}"
            + (f", dim {peak['dim']}" if peak["dim"] is not None else ""),
        ),
    )  # fmt: skip


def _sink_layers(own: StudyTables) -> list[dict]:
    """Rows of the sink mass, largest first."""
    mass = own.read("sink_mass")
    return [] if mass is None else mass.sort("mass", descending=True, nulls_last=True).to_dicts()


def _keys(own: StudyTables, model: Judged, prompts: str) -> Iterator[dict]:
    table = own.read("key_collapse")
    masses = _sink_layers(own)
    if table is None or not masses:
        return
    heads = {row["layer"]: row for row in table.filter(pl.col("head").is_null()).to_dicts()}
    path = own.path("key_collapse")
    if model.role == "random":
        row = max(heads.values(), key=lambda r: r["between_sequences"])
        yield row_of(
            "no fixed key", "control: in random weights the first token's key has no fixed direction",
            "cosine between sequences, mean over heads, in the layer where it is largest", model.label, prompts, None,
            f"< {NO_DIRECTION:g}", path,
            **decided(
                row["between_sequences"], row["between_sequences_low"], row["between_sequences_high"],
                lambda x: x < NO_DIRECTION, f"layer {row['layer']}",
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
            near = course.filter(pl.col("layer").is_in([m["layer"] for m in masses if m["mass"] > PAPER_EPSILON]))[
                column
            ].to_numpy()
            if len(near):
                reason += f"; over the {len(near)} layers with sink mass > {PAPER_EPSILON:g}: {near.min():.2f} to {near.max():.2f}"
        yield row_of(
            claim, statement, "cosine, mean over heads", model.label, prompts, paper, f"> {SAME_DIRECTION:g}", path,
            **decided(
                row[column], row[f"{column}_low"], row[f"{column}_high"], lambda x: x > SAME_DIRECTION, reason
            ),
        )  # fmt: skip


def _queries(own: StudyTables, model: Judged, prompts: str) -> Iterator[dict]:
    table = own.read("alignment_correlation")
    if table is None:
        return
    for row in table.to_dicts():
        words = {
            "alignment": "heads whose queries lie along the first token's key attend to it more",
            "positive_ratio": "heads with more positive scores on the first token attend to it more",
        }[row["quantity"]]
        if row["over"] == "layers":
            words = words.replace("heads", "layers", 1)
        yield row_of(
            f"{row['quantity'].replace('_', ' ')} goes with sink, by {row['over'].removesuffix('s')}",
            _control(model) + words, f"Spearman's correlation with the sink mass, over {row['count']} {row['over']}",
            model.label, prompts, None if model.role == "random" else "aligned heads have ≈ 100 % positive scores",
            "> 0", own.path("alignment_correlation"),
            **decided(row["correlation"], row["correlation_low"], row["correlation_high"], lambda x: x > 0),
        )  # fmt: skip


def _follows(own: StudyTables, model: Judged, prompts: str) -> Iterator[dict]:
    norms, sinks = own.read("norm_changes"), own.read("sink_changes")
    if norms is None or sinks is None or model.role == "random":
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
    yield row_of(
        "sink after every surge", f"after every rise of the first token's norm the sink rises within {FOLLOWS} layer",
        "share of the norm's rises that a rise of the sink mass follows", model.label, prompts, None, "= 1",
        f"{own.path('norm_changes')}, {own.path('sink_changes')}", **found,
    )  # fmt: skip


def _secondary(own: StudyTables, model: Judged, prompts: str) -> Iterator[dict]:
    by_layer, by_token = own.read("secondary_sinks_by_layer"), own.read("secondary_sinks")
    if by_layer is None or by_token is None:
        return
    row = by_layer.sort("share", descending=True).to_dicts()[0]
    tokens = ", ".join(f"{t['token']!r} {t['sinks']} of {t['candidates']}" for t in by_token.head(4).to_dicts())
    random = model.role == "random"
    yield row_of(
        "no secondary sinks" if random else "secondary sinks",
        "control: random weights have no sinks at later positions" if random else "some later positions are sinks too",
        "share of the positions 1 … T/2, in the layer where it is largest", model.label, prompts, None,
        "= 0" if random else "> 0", own.path("secondary_sinks_by_layer"),
        **decided(
            row["share"], row["share_low"], row["share_high"], (lambda x: x == 0) if random else (lambda x: x > 0),
            f"layer {row['layer']}; tokens: {tokens}" if tokens else "none in any layer",
        ),
    )  # fmt: skip
