"""One sentence on what a figure shows in this study, with its numbers, for figures that show something else than a claim's test."""

from collections.abc import Callable, Iterator, Mapping

import polars as pl

from sinkorigin.interventions.kind import SHOWN_POSITION, SHOWN_STRENGTH, kind_named
from sinkorigin.page.page_tables import PageTables, mean_of

Labels = Mapping[str, str]


def sentences(tables: PageTables, labels: Labels) -> dict[str, str]:
    """Figure → its sentence, of the first fetched model that has what it is made from; "" where none has.

    Args:
        labels: fetched model → its label.
    """
    return {name: next(said(tables, labels), "") for name, said in _SAID.items()}


def _first(tables: PageTables, name: str, labels: Labels) -> Iterator[tuple[str, pl.DataFrame]]:
    """(model with prompts, table) of every place where fetched models have a table."""
    for model, prompts in tables.files(name):
        table = tables.read(name, model, prompts) if model in labels else None
        if table is not None:
            yield f"in {labels[model]}, on {prompts.replace('_', ' ')}", table


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %".replace("-", "−") if abs(value) >= 0.01 or not value else f"{100 * value:.1g} %"


def _anatomy(tables: PageTables, labels: Labels) -> Iterator[str]:
    masses = dict(_first(tables, "sink_mass", labels))
    for place, table in _first(tables, "norm_ratio", labels):
        if place in masses:
            norm = table.filter(site="residual").sort("ratio", descending=True).row(0, named=True)
            mass = masses[place].sort("mass", descending=True).row(0, named=True)
            yield (
                f"{place}, position 0 receives at most {_percent(mass['mass'])} of the attention, in layer {mass['layer']}, and the first "
                f"token's norm is at most {norm['ratio']:.3g} times the others', after layer {norm['layer']}."
            )


def _disparity(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "disparity_by_layer", labels):
        rows = table.filter(pl.col("site") == "residual").drop_nulls("first")
        if len(rows):
            top = rows.sort("first", descending=True).row(0, named=True)
            yield (
                f"{place}, the first token's largest dimension is at most {top['first']:.3g} times its mean, after layer "
                f"{top['layer']}; that of other tokens is {top['rest']:.3g} times there."
            )


def _massive(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "massive_activations", labels):
        rows = table.filter(pl.col("share") > 0)
        if rows.is_empty():
            yield f"{place}, no position has a massive activation by the criterion of Sun et al. (2024)."
            continue
        first, later = rows.filter(pl.col("position") == 0), rows.filter(pl.col("position") > 0)
        elsewhere = later["position"].n_unique()
        others = (
            f"{elsewhere} other position{'s' if elsewhere != 1 else ''} ever ha{'ve' if elsewhere != 1 else 's'} one."
        )
        if first.is_empty():
            yield f"{place}, the first token has no massive activation by the criterion of Sun et al. (2024); {others}"
            continue
        top = first.sort("max_abs", descending=True).row(0, named=True)
        yield (
            f"{place}, the first token has massive activations in {first['layer'].n_unique()} layers, the largest of "
            f"{top['max_abs']:.3g} in dim {top['dim']} after layer {top['layer']}; {others}"
        )


def _rank(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "effective_rank_mean", labels):
        rows = {row["positions"]: row for row in table.filter(centred=False).to_dicts()}
        if "all" in rows:
            rest = next((row for name, row in rows.items() if name != "all"), None)
            without = f"; without position 0 it is {rest['effective_rank']:.3g}" if rest else ""
            yield (
                f"{place}, the effective rank of the residual stream is {rows['all']['effective_rank']:.3g}, mean over layers, of "
                f"{rows['all']['tokens']:,} tokens{without}."
            )


def _positions(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "sink_rate", labels):
        epsilon = min(table["epsilon"].unique(), key=lambda e: abs(e - 0.3))
        rates = table.filter(epsilon=epsilon).drop_nulls("rate").sort("position")
        half = rates.filter((pl.col("position") > 0) & (pl.col("position") <= pl.col("position").max() // 2))
        if len(rates) and len(half):
            other = half.sort("rate", descending=True).row(0, named=True)
            yield (
                f"{place}, {_percent(rates['rate'][0])} of all heads and sequences give position 0 more than {epsilon:g}; the next "
                f"of the positions up to {half['position'][-1]} is {other['position']}, with {_percent(other['rate'])}."
            )


def _alignment(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "query_alignment", labels):
        strong, weak = table.filter(pl.col("mass") > 0.5), table.filter(pl.col("mass") <= 0.5)
        if len(strong) and len(weak):
            yield (
                f"{place}, the {len(strong)} heads that give position 0 more than half of their attention have positive scores on it for "
                f"{_percent(mean_of(strong, 'positive_ratio'))} of their queries, the {len(weak)} others for "
                f"{_percent(mean_of(weak, 'positive_ratio'))}."
            )


def _shown(table: pl.DataFrame, *kinds: str) -> list[dict]:
    """A row a kind: at the position and strength that stand for all, in early layers where there are some.

    All at the position of the first: a sentence names one.
    """
    found: list[dict] = []
    for kind in kinds:
        rows = [
            row
            for row in table.filter(kind=kind).to_dicts()
            if row["site"] in ("value_aggregation", "attention", None)
            and (not found or row["target"] == found[0]["target"])
        ]
        rows.sort(
            key=lambda row: (
                abs(row["target"] - SHOWN_POSITION), abs((row["strength"] or 0) - SHOWN_STRENGTH),
                row["layers_rule"] != "until_onset", row["intervention"],
            )
        )  # fmt: skip
        found += rows[:1]
    return found


def _edits(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "interventions", labels):
        rows = _shown(table, "mask", "variance_amplification", "norm_control")
        if rows:
            told = "; ".join(f"{kind_named(row['kind']).label} {_percent(row['score'])}" for row in rows)
            yield (
                f"{place}, position {rows[0]['target']} receives {_percent(rows[0]['baseline'])} of the attention unedited, uniform "
                f"attention would give {_percent(rows[0]['uniform'])}, and under edits: {told}."
            )


def _conversions(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "conversions", labels):
        rows = _shown(table.filter(factor=3.0), "mask", "variance_amplification", "norm_control", "shuffled_deviations")
        if rows:
            told = "; ".join(
                f"{kind_named(row['kind']).label} in {row['converted']} of {row['sequences']} sequences" for row in rows
            )
            yield f"{place}, position {rows[0]['target']} becomes a sink under {told}."


def _layers(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "intervention_layers", labels):
        rows = _shown(table, "mask")
        if rows:
            own = table.filter(
                intervention=rows[0]["intervention"], target=rows[0]["target"], strength=rows[0]["strength"]
            )
            top = own.sort("score", descending=True).row(0, named=True)
            yield (
                f"{place}, under the {kind_named('mask').label} position {top['target']} receives most attention in layer {top['layer']}, "
                f"{_percent(top['score'])}."
            )


def _removals(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "removals", labels):
        rows = [row for row in table.to_dicts() if row["control_lost"] is not None]
        if rows:
            told = "; ".join(
                f"{row['removal'].replace('_', ' ')} takes the sink from {row['lost']} of {row['before']} sequences, its control "
                f"{row['control_lost']}" for row in rows[:2]
            )  # fmt: skip
            yield f"{place}, {told}."


def _chain(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "mediation", labels):
        told = chain_sentence(table)
        if told:
            yield f"{place}, {told}"


def chain_sentence(table: pl.DataFrame) -> str:
    """What each link of the chain carries of the first edit's effect in a table of mediation, in both directions; "" without one."""
    rows = table.filter(pl.col("cause").is_not_null() & pl.col("control_of").is_null()).drop_nulls("share").to_dicts()
    own = [row for row in rows if row["cause"] == rows[0]["cause"] and row["target"] == rows[0]["target"]]
    told = {
        direction: ", ".join(
            f"{row['mediator']} {_percent(row['share'])}" for row in own if row["direction"] == direction
        )
        for direction in ("inserted", "restored")
    }
    if not all(told.values()):
        return ""
    return (
        f"of the effect of the edit {own[0]['kind'].replace('_', ' ')} at position {own[0]['target']}, each link alone makes, in a run "
        f"without the edit: {told['inserted']}; and takes away, set back in a run with it: {told['restored']}."
    )


def _interchange(tables: PageTables, labels: Labels) -> Iterator[str]:
    for place, table in _first(tables, "mediation", labels):
        rows = table.filter(pl.col("cause").is_null() & (pl.col("direction") == "first into target")).to_dicts()
        if rows:
            told = ", ".join(f"{row['mediator']} in {row['sinks']}" for row in rows)
            yield (
                f"{place}, position {rows[0]['target']} with one part of position 0 becomes a sink in so many of "
                f"{rows[0]['sequences']} sequences: {told}."
            )


# figure → what it shows, a sentence for each place
_SAID: dict[str, Callable[[PageTables, Labels], Iterator[str]]] = {
    "anatomy": _anatomy,
    "sinks_by_position": _positions,
    "dominance_ratio_by_layer": _disparity,
    "massive_activations": _massive,
    "effective_rank_by_layer": _rank,
    "query_alignment": _alignment,
    "sink_by_intervention": _edits,
    "conversion_curves": _conversions,
    "edited_layers": _layers,
    "removals": _removals,
    "chain": _chain,
    "interchange": _interchange,
}
