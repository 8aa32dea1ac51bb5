"""The figures say what their tables say, name what they show, and are the same bytes every time."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.text import Text

from sinkorigin.figures import (
    dominance_ratio_by_layer,
    loss_curves,
    norm_and_sink_by_layer,
    style,
    variance_by_position,
)

LABELS = {
    "small": "SmolLM2-135M-Instruct, dequantised from Q4_1",
    "control": "SmolLM2-135M-Instruct, random weights (seed 0)",
}
RUNS = dict.fromkeys(("softmax", "headwise_rmsnorm"), "text")  # run → its group
LAYERS, POSITIONS = 4, 8


def rows(models=tuple(LABELS), **constant) -> list[dict]:
    return [{"model": model, "prompts": "random_tokens", **constant} for model in models]


def interval(name: str, value: float | None) -> dict:
    if value is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: value, f"{name}_low": 0.9 * value, f"{name}_high": 1.1 * value}


def frame(records: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(records, infer_schema_length=None)


def variance_table(models=tuple(LABELS), undefined=()) -> pl.DataFrame:
    return frame(
        [
            row | {"layer": layer, "position": i} | interval("variance", None if i in undefined else 1e-3 / (i + 1))
            for row in rows(models, site="value_aggregation")
            for layer in range(2)
            for i in range(POSITIONS)
        ]
    )


def trend_table(models=tuple(LABELS)) -> pl.DataFrame:
    return frame([row | interval("ratio", 6.25) for row in rows(models, site="value_aggregation", layer=0)])


def norm_tables(surge: int | None = 2) -> dict[str, pl.DataFrame]:
    layers = range(-1, LAYERS)
    return {
        "norm_ratio": frame(
            [
                row | {"layer": k} | interval("first", 3.0 * 10.0 ** max(k, 0)) | interval("rest", 3.0)
                for row in rows(site="residual")
                for k in layers
            ]
        ),
        "norm_surge": frame([row | interval("layer", surge) for row in rows(site="residual", threshold=10.0)]),
        "sink_mass": frame(
            [
                row | {"layer": k, "uniform": 0.07} | interval("mass", 0.1 + 0.2 * k)
                for row in rows()
                for k in layers
                if k >= 0
            ]
        ),
        "sink_onset": frame([row | interval("layer", surge) for row in rows(threshold=0.3)]),
    }


def disparity_table() -> pl.DataFrame:
    return frame(
        [
            row | {"site": site, "layer": k, "width": 576} | interval("first", 100.0) | interval("rest", 5.0)
            for row in rows()
            for site in ("residual", "attention_input")
            for k in range(LAYERS)
        ]
    )


def history_table() -> pl.DataFrame:
    return frame(
        [
            {"run": run, "variant": run, "seed": seed, "step": step, "tokens": 1000 * step}
            | {"train_loss": 4 + 3 / step + 0.1 * seed, "validation_loss": 4.2 + 3 / step + 0.1 * seed}
            for run in ("softmax", "headwise_rmsnorm")
            for seed in (0, 1)
            for step in range(1, 11)
        ]
    )


def all_figures() -> dict:
    return {
        "variance_by_position": variance_by_position.draw(
            variance=variance_table(), variance_trend=trend_table(), labels=LABELS, layers=[0, 1]
        ),
        "norm_and_sink_by_layer": norm_and_sink_by_layer.draw(**norm_tables(), labels=LABELS),
        "dominance_ratio_by_layer": dominance_ratio_by_layer.draw(disparity_by_layer=disparity_table(), labels=LABELS),
        "loss_curves": loss_curves.draw(history=history_table(), groups=RUNS),
    }


def save_all_as_svg(directory: str) -> None:
    """Also called in a process of its own."""
    for name, figure in all_figures().items():
        style.save(figure, [Path(directory) / f"{name}.svg"])


@pytest.fixture(scope="module")
def figures():
    return all_figures()


def words(figure) -> str:
    """All the text of a figure, its line breaks as spaces."""
    return " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")


def bands(ax) -> list[PolyCollection]:
    return [collection for collection in ax.collections if isinstance(collection, PolyCollection)]


@pytest.mark.parametrize(
    ("name", "panels", "on_axes"),
    [
        ("variance_by_position", 2, ["position (token)", "mean over dims"]),
        ("norm_and_sink_by_layer", 4, ["layer", "ℓ2", "share of attention"]),
        ("dominance_ratio_by_layer", 4, ["layer", "max |h| / mean |h|"]),
        ("loss_curves", 3, ["tokens", "nats per token"]),
    ],
)
def test_every_panel_has_bands_and_the_axes_name_their_units(figures, name, panels, on_axes):
    axes = figures[name].axes
    assert len(axes) == panels
    assert all(bands(ax) for ax in axes)
    labels = " ".join(f"{ax.get_xlabel()} {ax.get_ylabel()}".replace("\n", " ") for ax in axes)
    assert all(part in labels for part in on_axes)


@pytest.mark.parametrize("name", ["variance_by_position", "norm_and_sink_by_layer", "dominance_ratio_by_layer"])
def test_the_whole_label_of_each_model_and_its_prompts_are_written(figures, name):
    text = words(figures[name])
    assert all(label in text for label in LABELS.values())
    assert "random tokens" in text


def test_many_models_wrap_and_no_text_is_clipped_or_covers_another():
    models = {
        f"m{i}": f"Organisation/A-rather-long-model-name-{i}B-Instruct, dequantised from Q4_K_M" for i in range(8)
    }
    figure = variance_by_position.draw(
        variance=variance_table(models), variance_trend=trend_table(models), labels=models, layers=[0, 1]
    )
    figure.draw_without_rendering()  # lays it out
    assert len({round(ax.get_position().y0, 3) for ax in figure.axes}) == 2
    renderer = figure._get_renderer()
    texts = [ax.title for ax in figure.axes] + [ax._left_title for ax in figure.axes]
    texts += [ax.xaxis.label for ax in figure.axes] + [ax.yaxis.label for ax in figure.axes]
    texts += [text for ax in figure.axes for text in ax.texts] + figure.legends[0].get_texts()
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    assert len(boxes) > 3 * 8
    assert all(
        figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        for box in boxes
    )
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_legend_is_never_wider_than_its_figure(figures):
    for name, figure in figures.items():
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent(figure._get_renderer())
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, name


def test_an_undefined_variance_is_a_gap_and_not_a_zero():
    figure = variance_by_position.draw(
        variance=variance_table(undefined={0, 3}), variance_trend=trend_table(), labels=LABELS, layers=[0]
    )
    line = max(figure.axes[0].lines, key=lambda line: len(line.get_xdata()))
    drawn = np.asarray(line.get_ydata(), dtype=float)
    assert np.isnan(drawn[[0, 3]]).all()
    assert (drawn[[1, 2, 4, 5, 6, 7]] > 0).all()
    corners = np.concatenate([path.vertices for path in bands(figure.axes[0])[0].get_paths()])
    assert not (np.isin(corners[:, 0], [0, 3])).any()


def test_a_model_without_any_defined_variance_says_so():
    figure = variance_by_position.draw(
        variance=variance_table(undefined=range(POSITIONS)), variance_trend=trend_table(), labels=LABELS, layers=[0]
    )
    assert "not defined" in words(figure) and not figure.axes


def test_a_layer_that_a_model_lacks_is_left_out():
    figure = variance_by_position.draw(
        variance=variance_table(), variance_trend=trend_table(), labels=LABELS, layers=[0, 1, 99]
    )
    assert "layer 1" in words(figure) and "layer 99" not in words(figure)


def test_the_surge_is_marked_at_its_layer_and_only_where_there_is_one():
    def marks(figure):
        return [
            line for ax in figure.axes for line in ax.lines if line.get_marker() in {"v", "^"} and len(line.get_xdata())
        ]

    found = marks(norm_and_sink_by_layer.draw(**norm_tables(surge=2), labels=LABELS))
    assert [list(line.get_xdata()) for line in found] == [[2]] * 4  # surge and onset of two models
    assert marks(norm_and_sink_by_layer.draw(**norm_tables(surge=None), labels=LABELS)) == []


def test_the_band_of_a_loss_curve_reaches_from_the_lowest_to_the_highest_seed(figures):
    validation = figures["loss_curves"].axes[1]
    corners = bands(validation)[0].get_paths()[0].vertices
    at_last_step = corners[corners[:, 0] == 10_000, 1]
    assert at_last_step.min() == pytest.approx(4.5) and at_last_step.max() == pytest.approx(4.6)


def test_a_model_without_a_label_is_refused_rather_than_left_out():
    with pytest.raises(ValueError, match="control"):
        dominance_ratio_by_layer.draw(disparity_by_layer=disparity_table(), labels={"small": LABELS["small"]})


def test_the_same_tables_give_the_same_svg_in_this_process_and_in_a_fresh_one(tmp_path):
    save_all_as_svg(tmp_path / "here")
    style.save(loss_curves.draw(history=history_table(), groups=RUNS), [tmp_path / "again.svg"])
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "here" / "loss_curves.svg").read_bytes()

    path = os.pathsep.join([str(Path(style.__file__).parents[2]), str(Path(__file__).parent)])
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\n")  # a user's settings do not count
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, test_figures; test_figures.save_all_as_svg(sys.argv[1])",
            tmp_path / "fresh",
        ],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path)},
        check=True,
    )
    names = sorted(file.name for file in (tmp_path / "here").iterdir())
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes(), name


def test_drawing_leaves_the_callers_matplotlib_settings_alone():
    before = dict(matplotlib.rcParams)
    dominance_ratio_by_layer.draw(disparity_by_layer=disparity_table(), labels=LABELS)
    assert dict(matplotlib.rcParams) == before


def test_a_figure_that_cannot_be_written_leaves_nothing_and_keeps_the_old_one(tmp_path, figures):
    old = tmp_path / "figure.bogus"
    old.write_text("old")
    with pytest.raises(ValueError, match="bogus"):
        style.save(figures["loss_curves"], [old])
    assert [file.name for file in tmp_path.iterdir()] == ["figure.bogus"] and old.read_text() == "old"


@pytest.mark.parametrize("width", [1.0, 2.5])
def test_wrapped_text_keeps_every_character_and_fits(width):
    text = "Qwen/Qwen2.5-7B-Instruct-with-a-long-repository-name, dequantised from Q4_K_M"
    lines = style.wrapped(text, width, 9).splitlines()
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(style.text_width(line, 9) <= width for line in lines)
