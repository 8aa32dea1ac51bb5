"""The figures of what goes beyond single edits say what their tables say: links, removals, exchanges, whole curves."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from sinkorigin.figures import chain, conversion_curves, interchange, intervention_looks, removals, style
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.links import DIMS, KEY, LINKS, NEURONS
from sinkorigin.interventions.registry import KINDS
from sinkorigin.statistics import conversions as conversion_statistics
from sinkorigin.statistics import curve_contrasts as contrast_statistics
from sinkorigin.statistics import mediation as mediation_statistics

LABELS = {"small": "SmolLM2-135M-Instruct, dequantised from Q4_1", "other": "Gemma 3 270M, dequantised from Q4_K_M"}
CAUSES = {"mask": 1.0, "variance_amplification": 8.0}
MANY = {f"m{i}": f"Organisation/A-rather-long-model-name-{i}B-Instruct, dequantised from Q4_K_M" for i in range(3)}
NO_EFFECT = "the edit's effect is not distinguished from none, so there is nothing to share out"


def interval(name: str, value: float, width: float = 0.1) -> dict:
    return {name: value, f"{name}_low": value - width, f"{name}_high": value + width}


def frame(schema, records) -> pl.DataFrame:
    """A table with the real columns; what a record does not name is null."""
    empty = pl.DataFrame(schema.empty_table())
    return pl.DataFrame([dict.fromkeys(empty.columns) | record for record in records], schema=empty.schema)


def passed(direction, mediator=None, share=None, *, score=0.2, layers=(0, 1), **other) -> dict:
    return (
        {"direction": direction, "mediator": mediator, "mediator_layers": list(layers), "layers": [0, 1], "target": 10}
        | {
            "prompts": "random_tokens",
            "sequences": 16,
            "score": score,
            "unedited": 0.01,
            "sinks": 12,
            "sink_share": 0.75,
        }
        | {"sink_share_low": 0.48, "sink_share_high": 0.93, "first_score": 0.4, "first_sinks": 9}
        | interval("effect", score - 0.01, 0.02)
        | interval("first_effect", -0.1, 0.05)
        | ({} if share is None else interval("share", share))
        | other
    )


def shares(links=LINKS, share=0.8, causes=CAUSES, **other) -> list[dict]:
    """Passes of edits: the inserted share of every link is ``share``, the restored one half of it."""
    rows = []
    for cause, strength in causes.items():
        edit = {"cause": cause, "kind": cause, "strength": strength} | other
        rows += [passed("none", score=0.01, layers=()) | {"sinks": 0} | edit, passed("all", layers=()) | edit]
        for link in links:
            rows += [passed("restored", link, share / 2) | edit, passed("inserted", link, share) | edit]
    return rows


def swaps() -> list[dict]:
    rows = [passed("none", score=0.01, layers=()) | {"first_score": 0.5}]
    for link, score in (("embedding", 0.02), ("value aggregation", 0.15), ("FFN output", 0.25), ("key", 0.35)):
        rows += [passed("first into target", link, score=score), passed("target into first", link, score=0.01)]
    return [*rows, passed("removed", "super neurons by zero")]


def mediation(models=tuple(LABELS), records=None) -> pl.DataFrame:
    chosen = [*shares(), *swaps()] if records is None else records
    return frame(mediation_statistics.SCHEMA, [row | {"model": model} for model in models for row in chosen])


def removal(name, control=None, *, lost=8, before=16, **other) -> dict:
    share = {} if not before else interval("lost_share", lost / before)
    return (
        {"prompts": "random_tokens", "removal": name, "control": control, "layers": [2, 11], "sequences": 16}
        | {"before": before, "lost": lost, "first_score": 0.2, "first_unedited": 0.5}
        | {"second_score": 0.25, "second_unedited": 0.05, "moved": 4}
        | interval("gone", 0.6)
        | interval("moved_share", 0.25)
        | share
        | other
    )


def taken(models=tuple(LABELS), records=None) -> pl.DataFrame:
    every = [
        removal("aggregation by target", "aggregation by next"),
        removal("aggregation by next", lost=0),
        removal("super neurons by zero", "random neurons by zero"),
        removal("super neurons by zero", "neurons of equal norm by zero"),
        removal("random neurons by zero", lost=1),
        removal("neurons of equal norm by zero", lost=0),
        removal("dominating dims by mean", "other dims by mean", layers=list(range(2, 30))),
        removal("other dims by mean", lost=0),
    ]
    chosen = every if records is None else records
    return frame(mediation_statistics.REMOVALS_SCHEMA, [row | {"model": m} for m in models for row in chosen])


STRENGTHS = (2.0, 4.0, 8.0)


def converted(kind, shares_, *, strengths=STRENGTHS, target=10, factor=3.0, **other) -> list[dict]:
    return [
        {"prompts": "random_tokens", "intervention": kind, "kind": kind, "strength": strength, "target": target}
        | {"layers": [0, 1], "positions": [target], "factor": factor}
        | interval("share", share)
        | other
        for strength, share in zip(strengths, shares_, strict=True)
    ]


def curves(models=tuple(LABELS), targets=(40, 10)) -> tuple[pl.DataFrame, pl.DataFrame]:
    rows, contrasts = [], []
    for target in targets:
        rows += converted("variance_amplification", (0.2, 0.5, 0.8), target=target)
        rows += converted("variance_amplification", (1.0, 1.0, 1.0), target=target, factor=2.0)
        rows += converted("norm_control", (0.0, 0.0, 0.1), target=target)
        rows += converted("shuffled_deviations", (0.1, 0.3, 0.4, 0.5), strengths=(1.0, *STRENGTHS), target=target)
        for control in ("norm_control", "shuffled_deviations"):
            contrasts.append(
                {"prompts": "random_tokens", "treatment": "variance_amplification", "control": control}
                | {"treatment_kind": "variance_amplification", "control_kind": control, "layers": [0, 1]}
                | {"positions": [target], "target": target, "sequences": 24, "strengths": [1.0, *STRENGTHS]}
                | {"ever": 20, "control_ever": 3, "ever_p": 0.0001 if control == "norm_control" else 0.04}
                | interval("converted_area", 0.41 if target == 10 else -0.2)
            )
    return (
        frame(conversion_statistics.SCHEMA, [row | {"model": model} for model in models for row in rows]),
        frame(contrast_statistics.SCHEMA, [row | {"model": model} for model in models for row in contrasts]),
    )


def draw_curves(tables, labels):
    return conversion_curves.draw(conversions=tables[0], curve_contrasts=tables[1], labels=labels, kinds=KINDS)


DRAW = {
    "chain": lambda models, labels: chain.draw(mediation=mediation(models), labels=labels),
    "interchange": lambda models, labels: interchange.draw(mediation=mediation(models), labels=labels),
    "removals": lambda models, labels: removals.draw(removals=taken(models), labels=labels),
    "conversion_curves": lambda models, labels: draw_curves(curves(models), labels),
}


@pytest.fixture(scope="module")
def figures():
    return {name: draw(tuple(LABELS), LABELS) for name, draw in DRAW.items()}


def shown(figure) -> list:
    return [ax for ax in figure.axes if ax.axison]


def words(part) -> str:
    """All the text of a figure or panel, its line breaks as spaces."""
    return " ".join(text.get_text() for text in part.findobj(Text)).replace("\n", " ")


def points(ax, colour) -> list[tuple[float, float]]:
    """Places of the markers of a colour."""
    return [
        (round(float(line.get_xdata()[0]), 3), round(float(line.get_ydata()[0]), 2))
        for line in ax.lines
        if line.get_marker() not in ("None", "") and to_rgb(line.get_color()) == to_rgb(colour)
    ]


def bars(ax) -> list[tuple[float, float]]:
    """Ends of the horizontal bars, from top to bottom."""
    segments = [part for found in ax.collections if isinstance(found, LineCollection) for part in found.get_segments()]
    flat = sorted((part for part in segments if part[0][1] == part[1][1]), key=lambda part: part[0][1])
    return [(round(float(part[0][0]), 3), round(float(part[1][0]), 3)) for part in flat]


@pytest.mark.parametrize(
    ("name", "panels", "on_axes"),
    [
        ("chain", 4, ["share of the effect (%)"]),
        ("interchange", 4, ["share of attention"]),
        ("removals", 6, ["share of sequences", "share of that attention"]),
        ("conversion_curves", 4, ["strength λ", "share of sequences"]),
    ],
)
def test_every_model_has_its_panels_and_the_axes_name_their_units(figures, name, panels, on_axes):
    figure = figures[name]
    assert len(shown(figure)) == panels
    text = words(figure)
    assert all(part in text for part in [*on_axes, *LABELS.values(), "random tokens", "95 %"])
    one = DRAW[name](("small",), LABELS)
    assert len(shown(one)) == panels / 2 and LABELS["other"] not in words(one)
    with pytest.raises(ValueError, match="other"):
        DRAW[name](tuple(LABELS), {"small": LABELS["small"]})


@pytest.mark.parametrize("name", DRAW)
def test_no_text_is_clipped_or_covers_another_or_is_smaller_than_7_points(name):
    figure = DRAW[name](tuple(MANY), MANY)
    figure.draw_without_rendering()  # lays it out
    renderer = figure._get_renderer()
    texts = [text for ax in figure.axes for text in [ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.texts]]
    texts += [tick.label1 for ax in shown(figure) for axis in (ax.xaxis, ax.yaxis) for tick in axis._update_ticks()]
    texts += [block._suptitle for block in figure.subfigs] + figure.legends[0].get_texts()
    texts = [text for text in texts if text is not None and text.get_text() and text.get_visible()]
    assert len(texts) > 50 and min(text.get_fontsize() for text in texts) >= 7
    boxes = [Text.get_window_extent(text, renderer) for text in texts]
    inside = figure.bbox
    assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 and inside.y0 <= b.y0 and b.y1 <= inside.y1 for b in boxes)
    covered = [
        (texts[i].get_text(), texts[j].get_text())
        for i, a in enumerate(boxes)
        for j, b in enumerate(boxes[:i])
        if a.overlaps(b)
    ]
    assert covered == []


def test_the_same_tables_give_the_same_bytes(tmp_path):
    for name, draw in DRAW.items():
        for copy in ("a", "b"):
            style.save(draw(("small",), LABELS), [tmp_path / copy / f"{name}.svg"])
        assert Path(tmp_path / "a" / f"{name}.svg").read_bytes() == (tmp_path / "b" / f"{name}.svg").read_bytes()


def test_a_link_has_both_shares_with_their_intervals_and_numbers_in_the_order_of_the_chain(figures):
    drawing, mask, amplified = figures["chain"].axes[:3]
    blue, red = (look["color"] for _, look, _ in chain.DIRECTIONS.values())
    rows = range(1, len(LINKS) + 1)
    assert points(mask, blue) == [(80.0, round(row - 0.17, 2)) for row in rows]
    assert points(mask, red) == [(40.0, round(row + 0.17, 2)) for row in rows]
    assert bars(mask) == [(70.0, 90.0), (30.0, 50.0)] * len(LINKS)
    assert words(mask).count("80 % [70, 90]") == len(LINKS) == words(mask).count("40 % [30, 50]")
    assert mask.get_title(loc="left") == "mask\nrandom tokens"
    assert "variance amplification, λ = 8" in words(amplified)
    boxes = [text.get_text() for text in drawing.texts if text.get_text() and "layer" not in text.get_text()]
    assert boxes == ["edit of position 10", *LINKS, "sink at position 10"]
    assert "score 0.010 → 0.200 change +0.190 [0.170, 0.210]" in words(mask)
    assert "above 3 × uniform in 12 of 16 sequences: 75 % [48, 93]; unedited in 0" in words(mask)


def test_a_share_beyond_the_axis_is_an_arrow_at_its_end_and_its_number_is_written():
    rows = [row | (interval("share", -2.35) if row["mediator"] == DIMS else {}) for row in shares(causes={"mask": 1.0})]
    mask = shown(chain.draw(mediation=mediation(("small",), rows), labels=LABELS))[0]
    low, high = mask.get_xlim()
    assert low > -100 and high < 250
    arrows = [line for line in mask.lines if line.get_marker() == "<"]
    assert [line.get_xdata()[0] for line in arrows] == [low, low] and words(mask).count("−235 % [−245, −225]") == 2


def test_an_edit_without_an_effect_and_a_link_that_a_model_lacks_say_so_in_words():
    nothing = [row | {"share": None, "not_applicable": NO_EFFECT} for row in shares(causes={"mask": 1.0}, share=0.5)]
    lacking = shares(
        [link for link in LINKS if link not in (NEURONS, DIMS, KEY)], causes={"variance_amplification": 8.0}
    )
    figure = chain.draw(mediation=mediation(("small",), [*nothing, *lacking]), labels=LABELS)
    first, second = shown(figure)
    assert f"not applicable: {NO_EFFECT}" in words(first) and not bars(first)
    assert words(second).count("not applicable:") == 3 and len(bars(second)) == 4
    assert "no super neuron starts a surge of the norm" in words(second)
    drawing = figure.axes[0]
    assert {text.get_text(): text.get_color() for text in drawing.texts}[LINKS[0]] == "0.1"
    pale = chain.draw(mediation=mediation(("small",), lacking), labels=LABELS).axes[0]
    assert {text.get_text(): text.get_color() for text in pale.texts}[KEY] == "0.6"


def test_more_edits_than_fit_beside_one_chain_go_on_below_with_the_chain_again():
    rows = [row for prompts in ("random_tokens", "with_bos") for row in shares(prompts=prompts)]
    figure = chain.draw(mediation=mediation(("small",), rows), labels=LABELS)
    assert len(shown(figure)) == 4 and len(figure.axes) == 6 and words(figure).count(LABELS["small"]) == 1


def test_an_exchange_shows_both_positions_against_their_unedited_scores_and_counts_their_sinks(figures):
    into_target, into_first = shown(figures["interchange"])[:2]
    assert into_target.get_title(loc="left") == "from position 0 into position 10"
    red, blue = interchange.TARGET["color"], interchange.FIRST["color"]
    assert [x for x, _ in points(into_target, red)] == [0.02, 0.15, 0.25, 0.35]
    assert [x for x, _ in points(into_first, red)] == [0.01] * 4 and [x for x, _ in points(into_first, blue)] == [
        0.4
    ] * 4
    levels = {line.get_xdata()[0] for line in into_first.lines if line.get_linestyle() == ":"}
    assert levels == {0.01, 0.5}
    assert (0.35, 0.45) in bars(into_first)  # the unedited 0.5, and its change of −0.1 ± 0.05
    text = words(into_first)
    assert text.count("12 of 16") == 4 == text.count("9 of 16")
    names = [label.get_text().split("\n")[0] for label in into_target.get_yticklabels()]
    assert names == ["embedding", "value aggregation", "FFN output", "key"]


def test_a_removal_stands_once_above_its_controls_with_its_counts(figures):
    lost, gone, moved = shown(figures["removals"])[:3]
    assert [" ".join(label.get_text().split()) for label in lost.get_yticklabels()] == [
        "aggregation of the edited position (layers 2, 11)", "aggregation of another sequence",
        "super neurons to zero (layers 2, 11)", "random neurons to zero", "neurons of equal norm to zero",
        "dominating dims to their mean at a later position (layers 2–29)", "other dims to their mean at a later position",
    ]  # fmt: skip
    assert [y for _, y in points(lost, removals.TREATMENT["color"])] == [0, 2, 5]
    assert points(lost, removals.CONTROL["color"]) == [(0.0, 1), (0.062, 3), (0.0, 4), (0.0, 6)]
    assert bars(lost)[0] == (0.4, 0.6) and bars(gone)[0] == (0.5, 0.7) and bars(moved)[0] == (0.15, 0.35)
    assert "8 of 16" in words(lost) and "0.50 → 0.20" in words(gone) and "4 of 16 (0.25)" in words(moved)


def test_without_a_sink_there_is_none_to_lose_and_the_figure_says_so():
    rows = [removal("aggregation by target", "aggregation by next", before=0), removal("aggregation by next", before=0)]
    lost, gone, _ = shown(removals.draw(removals=taken(("small",), rows), labels=LABELS))
    assert words(lost).count("no sink to lose") == 2 and not bars(lost) and len(bars(gone)) == 2


def test_curves_of_treatment_and_control_share_a_panel_at_the_position_nearest_to_the_papers(figures):
    shuffled, scaled = shown(figures["conversion_curves"])[:2]
    assert scaled.get_title(loc="left") == "against norm control" and "position 10" in words(
        figures["conversion_curves"]
    )

    def curve(ax, kind):
        colour = intervention_looks.look(kind_named(kind))["color"]
        (line,) = (line for line in ax.lines if to_rgb(line.get_color()) == to_rgb(colour))
        return [list(np.round(values, 3)) for values in (line.get_xdata(), line.get_ydata())]

    # by the criterion of 3 times uniform; nothing is converted at 1, but where the control swaps there
    assert curve(scaled, "variance_amplification") == [[1, 2, 4, 8], [0, 0.2, 0.5, 0.8]]
    assert curve(scaled, "norm_control") == [[1, 2, 4, 8], [0, 0, 0, 0.1]]
    assert curve(shuffled, "shuffled_deviations") == [[1, 2, 4, 8], [0.1, 0.3, 0.4, 0.5]]
    assert sum(isinstance(found, PolyCollection) for found in scaled.collections) == 2
    assert "area +0.41 [0.31, 0.51]" in words(scaled) and "any λ: 20 against 3 of 24, p < 0.001" in words(scaled)
    assert "p = 0.04" in words(shuffled)


def without_intervals(table: pl.DataFrame) -> pl.DataFrame:
    """The table as it is where the sequences come from too few documents for an interval."""
    unknown = [name for name in table.columns if name.endswith(("_low", "_high", "_p"))]
    return table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in unknown)


def test_estimates_without_an_interval_are_drawn_without_a_bar():
    table = without_intervals(mediation(("small",)))
    linked = shown(chain.draw(mediation=table, labels=LABELS))[0]
    swapped = shown(interchange.draw(mediation=table, labels=LABELS))[0]
    lost = shown(removals.draw(removals=without_intervals(taken(("small",))), labels=LABELS))[0]
    curved = shown(draw_curves(tuple(map(without_intervals, curves(("small",)))), LABELS))[0]
    assert not [bar for ax in (linked, swapped, lost) for bar in bars(ax)]
    assert len(points(linked, chain.DIRECTIONS["inserted"][1]["color"])) == len(LINKS)
    assert "80 % [" not in words(linked) and "area +0.41 any" in words(curved) and "8 of 16" in words(lost)


@pytest.mark.parametrize("name", DRAW)
def test_a_study_in_which_nothing_could_be_followed_or_compared_says_so(name):
    assert "the claims say why" in words(DRAW[name]((), LABELS))
