"""Every figure fits a paper: a column or a page wide, legible there, without empty panels, in a file that opens at once."""

import inspect
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import test_figures
import test_figures_interventions
import test_figures_mechanism
import test_figures_pretraining
import test_figures_structure
from matplotlib.text import Text

from harness.figures import FIGURES
from sinkorigin.figures import style, super_neurons

LONG = {f"m{i}": f"Organisation/A-rather-long-model-name-{i}B-Instruct, dequantised from Q4_K_M" for i in range(3)}

CAPTIONS = Path(__file__).parents[2] / "captions"


def drawings() -> dict:
    """Name → a figure of several models, from the tables of its own tests."""
    found = {}
    for module in (test_figures_structure, test_figures_interventions, test_figures_mechanism):
        found |= {name: draw(tuple(LONG)[:3], LONG) for name, draw in module.DRAW.items()}
    found |= test_figures.all_figures()
    made = test_figures_pretraining.trainings()
    found["training_dynamics"] = test_figures_pretraining.dynamics(made)
    found["pretraining_comparison"] = test_figures_pretraining.comparison(made)
    return found


@pytest.fixture(scope="module")
def figures():
    found = drawings()
    for figure in found.values():
        figure.draw_without_rendering()  # lays it out
    return found


def texts_of(figure) -> list[Text]:
    """What is written in a laid-out figure, the labels of ticks outside their axis apart, which are not drawn."""
    hidden = {
        id(tick.label1)
        for ax in figure.axes
        for axis in (ax.xaxis, ax.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        if tick not in axis._update_ticks() or not ax.axison
    }
    return [
        text
        for text in figure.findobj(Text)
        if text.get_text().strip() and text.get_visible() and id(text) not in hidden
    ]


def faults(figure) -> list[str]:
    """Texts that are clipped at the figure's edge or cover one another."""
    renderer = figure._get_renderer()
    texts = texts_of(figure)
    boxes = [Text.get_window_extent(text, renderer) for text in texts]  # an annotation's own includes its line
    inside = figure.bbox
    found = [
        f"clipped: {text.get_text()!r}"
        for text, box in zip(texts, boxes, strict=True)
        if box.x0 < inside.x0 - 1 or box.x1 > inside.x1 + 1 or box.y0 < inside.y0 - 1 or box.y1 > inside.y1 + 1
    ]
    for i, a in enumerate(boxes):
        for j in range(i):
            b = boxes[j]
            if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1:
                found.append(f"{texts[j].get_text()!r} under {texts[i].get_text()!r}")
    return found


def test_every_figure_is_as_wide_as_a_column_or_a_page_and_nothing_in_it_is_smaller_than_7_points(figures):
    widths = {name: figure.get_figwidth() for name, figure in figures.items()}
    assert {name: width for name, width in widths.items() if width not in (style.COLUMN, style.PAGE)} == {}
    small = {name: min(text.get_fontsize() for text in texts_of(figure)) for name, figure in figures.items()}
    assert {name: size for name, size in small.items() if size < 7} == {}
    # a power or an index of mathematical text would be smaller than its line
    assert [
        name
        for name, figure in figures.items()
        if any("$" in t.get_text() and t.get_parse_math() for t in texts_of(figure) if "$a$" not in t.get_text())
    ] == []


def test_no_text_is_clipped_or_covers_another(figures):
    assert {name: found for name, figure in figures.items() if (found := faults(figure))} == {}


def test_no_panel_is_empty(figures):
    for name, figure in figures.items():
        empty = [ax for ax in figure.axes if ax.axison and not (ax.lines or ax.collections or ax.patches or ax.images)]
        assert empty == [], name


def test_models_trained_here_have_rows_of_their_own_below_and_a_scale_of_their_own():
    tables = test_figures.norm_tables()
    alone, apart = (
        import_module("sinkorigin.figures.norm_and_sink_by_layer").draw(
            **tables, labels=test_figures.LABELS, trained=trained
        )
        for trained in ((), ("control",))
    )
    for figure in (alone, apart):
        figure.draw_without_rendering()
    heights = [[round(ax.get_position().y0, 2) for ax in figure.axes] for figure in (alone, apart)]
    assert heights[0][0] == heights[0][2]  # side by side
    assert heights[1][2] < heights[1][1] < heights[1][0]  # below both panels of the other


def test_every_figure_of_models_is_told_which_of_them_were_trained_here():
    for figure in FIGURES:
        parameters = inspect.signature(import_module(f"sinkorigin.figures.{figure.name}").draw).parameters
        covers_trained = figure.covers.__name__ in ("shown_prompts", "varied_prompts", "every_condition")
        assert covers_trained <= bool({"trained", "small"} & parameters.keys()), figure.name


def dense_neurons(count=40_000) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    table = test_figures_structure.neuron_table(("small",))
    one = table.filter(~pl.col("super_neuron")).head(1)
    many = pl.concat([one] * count).with_columns(
        rank=pl.Series(np.arange(count) + 100, dtype=pl.Int32),
        activation_ratio=pl.Series(rng.lognormal(0, 2, count)),
        gate_norm_ratio=pl.Series(rng.lognormal(0, 0.3, count)),
    )
    return pl.concat([table.filter("super_neuron"), many])


def test_a_dense_cloud_is_pixels_inside_a_small_vector_figure_the_same_every_time(tmp_path):
    paths = [tmp_path / name for name in ("a.svg", "b.svg")]
    for path in paths:
        figure = super_neurons.draw(
            super_neurons=dense_neurons(),
            super_neuron_surge=test_figures_structure.surge_table(("small",)),
            labels=test_figures_structure.LABELS,
        )
        style.save(figure, [path])
    assert paths[0].stat().st_size < 200_000 and b"<image" in paths[0].read_bytes()
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_slim_svg_keeps_its_words_the_scale_of_its_letters_and_curves():
    svg = (
        '<svg>\n <!-- 5.63e-05 and 0.000132 -->\n <g id="text_1">\n'
        '  <g style="fill: #262626" transform="translate(1.23456 7.8) scale(0.015625 -0.07)">\n'
        '   <use xlink:href="#DejaVuSans-4c" transform="translate(52.09375 0)"/>\n  </g>\n </g>\n'
        ' <path d="M 1.23456 2 \nL 3 4.56789 \nL 5 6 \n"/>\n <path d="M 1 2 \nQ 1 2 3 4 \nL 5 6 \n"/>\n</svg>\n'
    )
    slim = style._slim(svg)
    assert "5.63e-05 and 0.000132" in slim and "scale(0.015625 -0.07)" in slim
    assert '<use xlink:href="#D4c" x="52.09"/>' in slim and "translate(1.23 7.8)" in slim
    assert 'd="M 1.23 2 3 4.56 5 6 \n"' in slim and "Q 1 2 3 4 \nL 5 6" in slim


def test_markers_of_one_line_share_their_style():
    marks = "".join(f'<use xlink:href="#m" x="{x}" y="1" style="fill: #0173b2"/>\n' for x in (1, 2))
    other = marks.replace("#0173b2", "#de8f05", 1)
    assert style._slim(f"<g>\n{marks}</g>").count("style") == 1
    assert style._slim(f"<g>\n{other}</g>").count("style") == 2


def test_how_many_sequences_were_measured_stands_under_the_panels(tmp_path):
    figure = test_figures.loss_curves.draw(history=test_figures.history_table(), groups=test_figures.RUNS)
    style.save(figure, [tmp_path / "figure.svg"], sample="n = 64 sequences of 64 tokens (random tokens)")
    assert "n = 64 sequences of 64 tokens (random tokens)" in (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_caption_says_how_to_read_the_figure_and_what_would_contradict_the_paper(figure):
    paragraphs = (CAPTIONS / f"{figure.name}.rst").read_text().split("\n\n")
    assert len(paragraphs) >= 3 and len(paragraphs[0]) > 150
    assert any(part.startswith("Look for: ") for part in paragraphs)
    assert paragraphs[-1].startswith("Against the paper: ")


@pytest.mark.parametrize(
    ("value", "written"), [(0.01, "0.01"), (300, "300"), (1000, "1k"), (2e6, "2M"), (1e-6, "1e−6"), (0.0005, "5e−4")]
)
def test_a_number_on_a_logarithmic_axis_has_no_raised_digits(value, written):
    assert style.plain(value) == written
