"""The figures of the interventions say what their tables say, whatever a study edits."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from sinkorigin.figures import (
    dispersion_grid,
    edited_layers,
    intervention_contrasts,
    intervention_looks,
    mask_by_layers_and_position,
    necessity,
    sink_by_intervention,
    style,
)
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.registry import KINDS
from sinkorigin.statistics import dispersion_grid as grid_statistics
from sinkorigin.statistics import intervention_contrasts as contrast_statistics
from sinkorigin.statistics import interventions

LABELS = {
    "small": "SmolLM2-135M-Instruct, dequantised from Q4_1",
    "control": "SmolLM2-135M-Instruct, random weights (seed 0)",
}
LAYERS = 4
DOSES = ("variance_amplification", "norm_control", "random_directions", "mean_shift", "shuffled_deviations")


def interval(name: str, value: float) -> dict:
    low, high = sorted((0.9 * value, 1.1 * value))
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def frame(schema, records) -> pl.DataFrame:
    """A table with the real columns; what a record does not name is null."""
    empty = pl.DataFrame(schema.empty_table())
    return pl.DataFrame([dict.fromkeys(empty.columns) | record for record in records], schema=empty.schema)


def edit(kind, score=0.2, *, target=10, strength=1.0, layers=range(4), **other) -> dict:
    """A row of the interventions table; the score at strength λ of a dose is 0.05 λ if it is amplified."""
    return (
        {"prompts": "random_tokens", "intervention": kind, "kind": kind, "strength": strength, "layers": list(layers)}
        | {"site": "attention" if kind == "mask" else "value_aggregation"}
        | {"positions": [target], "target": target, "effect": score - 0.01, "uniform": 0.04, "sink": score > 0.1}
        | interval("score", score)
        | interval("baseline", 0.01)
        | interval("first_score", 0.4)
        | {"first_baseline": 0.5, "other_position": 1, "other_position_score": 0.08}
        | other
    )


def doses(target=10, kinds=DOSES, strengths=(2.0, 4.0, 8.0), **other) -> list[dict]:
    return [
        edit(
            kind,
            0.02 * strength if kind == "variance_amplification" else 0.01,
            target=target,
            strength=strength,
            **other,
        )
        for kind in kinds
        for strength in strengths
    ]


def grid(means=(0.0, 1.0, 2.0), strengths=(1.0, 2.0), **other) -> list[dict]:
    return [
        edit("mean_and_deviation", 0.02 * strength / (mean + 0.5), strength=strength) | {"mean_factor": mean} | other
        for strength in strengths
        for mean in means
    ]


def necessary(prompts="natural_text", loss=1.0) -> list[dict]:
    at_first = [
        edit("baseline", strength=None, layers=[], site=None, intervention="baseline"),
        edit("super_neuron_ablation", intervention="silent_super_neurons", layers=[1, 2, 8]),
        *(edit("value_averaging", strength=count, intervention="averaged_values") for count in (2.0, 4.0)),
        edit("dominating_dims", intervention="dims_to_zero", layers=[2, 11]),
    ]
    change = {} if loss is None else interval("loss_change", loss)
    return [row | {"prompts": prompts, "target": 0, "positions": [0]} | change for row in at_first]


def study(models=tuple(LABELS), records=None) -> pl.DataFrame:
    every = [
        *doses(),
        *doses(target=40),
        edit("mask"),
        edit("mask", target=40),
        edit("mask", 0.012, layers=range(20, 24)),
    ]
    every += [*grid(), *necessary(), *necessary("random_tokens", None)]
    chosen = every if records is None else records
    return frame(interventions.SCHEMA, [row | {"model": model} for model in models for row in chosen])


def contrast(control, *, strength=8.0, score=0.2, target=10, treatment="variance_amplification", **other) -> dict:
    return (
        {"prompts": "random_tokens", "treatment": treatment, "control": control, "control_kind": control}
        | {"treatment_kind": "variance_amplification", "site": "value_aggregation", "control_site": "value_aggregation"}
        | {
            "strength": strength,
            "layers": [0, 1, 2, 3],
            "control_layers": [0, 1, 2, 3],
            "positions": [target],
            "target": target,
        }
        | {"score": score, "control_score": 0.01, "difference_low_all": 0.1, "difference_high_all": 0.3}
        | interval("difference", score - 0.01)
        | interval("effect_size", 1.5)
        | other
    )


def contrasts(models=tuple(LABELS), records=None) -> pl.DataFrame:
    every = [
        contrast(control, strength=strength, score=score, target=target)
        for control in ("norm_control", "shuffled_deviations")
        for target in (10, 40)
        for strength, score in ((2.0, 0.1), (8.0, 0.2), (16.0, 0.15))
    ]
    chosen = every if records is None else records
    return frame(contrast_statistics.SCHEMA, [row | {"model": model} for model in models for row in chosen])


def by_layer(models=tuple(LABELS), records=None) -> pl.DataFrame:
    every = [*doses(), *doses(target=40), edit("mask"), edit("mask", 0.012, layers=range(20, 24))]
    every += [edit("baseline", 0.01, strength=None, layers=[], target=target, site=None) for target in (0, 10, 40)]
    columns = set(interventions.LAYERS_SCHEMA.names)
    return frame(
        interventions.LAYERS_SCHEMA,
        [
            {name: value for name, value in row.items() if name in columns}
            | {"model": model, "layer": layer, "norm": 10.0 ** (layer + 1), "key_cosine": 0.2 * layer}
            for model in models
            for row in (every if records is None else records)
            for layer in range(LAYERS)
        ],
    )


def tau_table(models=tuple(LABELS)) -> pl.DataFrame:
    rows = [
        {"model": model, "prompts": "random_tokens", "intervention": "mean_and_deviation", "positions": [10]}
        | {"target": 10, "kind": "mean_and_deviation"}
        | interval("dispersion_tau", 0.5)
        | interval("variance_tau", -0.2)
        | interval("difference", 0.7)
        for model in models
    ]
    return frame(grid_statistics.SCHEMA, rows)


def draw_sinks(table, labels):
    return sink_by_intervention.draw(interventions=table, labels=labels, kinds=KINDS)


def draw_contrasts(table, labels):
    return intervention_contrasts.draw(intervention_contrasts=table, labels=labels, kinds=KINDS)


def draw_masks(table, labels):
    return mask_by_layers_and_position.draw(interventions=table, labels=labels)


def draw_layers(table, labels):
    return edited_layers.draw(intervention_layers=table, labels=labels, kinds=KINDS)


def draw_grid(table, taus, labels):
    return dispersion_grid.draw(interventions=table, dispersion_grid=taus, labels=labels)


def draw_necessity(table, labels):
    return necessity.draw(interventions=table, labels=labels)


DRAW = {
    "sink_by_intervention": lambda models, labels: draw_sinks(study(models), labels),
    "intervention_contrasts": lambda models, labels: draw_contrasts(contrasts(models), labels),
    "mask_by_layers_and_position": lambda models, labels: draw_masks(study(models), labels),
    "edited_layers": lambda models, labels: draw_layers(by_layer(models), labels),
    "dispersion_grid": lambda models, labels: draw_grid(study(models), tau_table(models), labels),
    "necessity": lambda models, labels: draw_necessity(study(models), labels),
}


def save_all_as_svg(directory: str) -> None:
    """Also called in a process of its own."""
    for name, draw in DRAW.items():
        style.save(draw(tuple(LABELS), LABELS), [Path(directory) / f"{name}.svg"])


@pytest.fixture(scope="module")
def figures():
    return {name: draw(tuple(LABELS), LABELS) for name, draw in DRAW.items()}


def shown(figure) -> list:
    """The panels; what only holds a place is none."""
    return [ax for ax in figure.axes if ax.axison]


def words(figure) -> str:
    """All the text of a figure, its line breaks as spaces."""
    return " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")


def bands(ax) -> list[PolyCollection]:
    return [collection for collection in ax.collections if isinstance(collection, PolyCollection)]


def curves(ax) -> dict[tuple, list[float]]:
    """Colour → heights of its line; lines across the panel are none."""
    return {
        tuple(np.round(to_rgb(line.get_color()), 3)): [round(float(y), 4) for y in line.get_ydata()]
        for line in ax.lines
        if list(line.get_xdata()) != [0, 1]
    }


def colour(kind: str) -> tuple:
    return tuple(np.round(intervention_looks.look(kind_named(kind))["color"], 3))


def levels(ax) -> set[float]:
    """Heights of the lines across the panel."""
    return {line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1]}


def cells(ax) -> np.ndarray:
    (mesh,) = (found for found in ax.collections if isinstance(found, QuadMesh))
    return mesh.get_array()


def rows_of(ax) -> list[str]:
    return [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]


@pytest.mark.parametrize(
    ("name", "panels", "on_axes"),
    [
        ("sink_by_intervention", 4, ["strength λ (log scale)", "sink score", "share of attention"]),
        ("intervention_contrasts", 4, ["share of attention, paired by sequence", "effect size d (mean / standard"]),
        ("mask_by_layers_and_position", 3, ["masked position (token)", "masked − unedited"]),
        ("edited_layers", 6, ["layer", "share of attention", "ℓ2", "cosine"]),
        ("dispersion_grid", 3, ["factor α", "factor λ", "share of attention"]),
        ("necessity", 6, ["share of attention", "nats per token"]),
    ],
)
def test_every_model_is_shown_and_the_axes_name_their_units(figures, name, panels, on_axes):
    figure = figures[name]
    assert len(shown(figure)) == panels  # a colour bar is one
    labels = " ".join(f"{ax.get_xlabel()} {ax.get_ylabel()}".replace("\n", " ") for ax in figure.axes)
    assert all(part in labels for part in on_axes)
    text = words(figure)
    assert all(label in text for label in LABELS.values()) and "random tokens" in text


@pytest.mark.parametrize("name", DRAW)
def test_no_text_is_clipped_or_covers_another_however_many_models(name):
    models = {
        f"m{i}": f"Organisation/A-rather-long-model-name-{i}B-Instruct, dequantised from Q4_K_M" for i in range(5)
    }
    figure = DRAW[name](tuple(models), models)
    figure.draw_without_rendering()  # lays it out
    renderer = figure._get_renderer()
    axes = shown(figure)
    texts = [ax._left_title for ax in axes] + [text for ax in axes for text in ax.texts]
    texts += [ax.xaxis.label for ax in axes] + [ax.yaxis.label for ax in axes]
    texts += [tick.label1 for ax in axes for tick in ax.yaxis._update_ticks()] + figure.legends[0].get_texts()
    texts += [block._suptitle for block in figure.subfigs]
    # an annotation's own extent includes its line to the point
    boxes = [Text.get_window_extent(text, renderer) for text in texts if text.get_text() and text.get_visible()]
    assert all(
        figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        for box in boxes
    )
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    legend = figure.legends[0].get_window_extent(renderer)
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1


@pytest.mark.parametrize("name", DRAW)
def test_one_model_is_enough(name):
    figure = DRAW[name](("small",), LABELS)
    assert LABELS["small"] in words(figure) and LABELS["control"] not in words(figure)


@pytest.mark.parametrize("name", DRAW)
def test_a_model_without_a_label_is_refused_rather_than_left_out(name):
    with pytest.raises(ValueError, match="control"):
        DRAW[name](tuple(LABELS), {"small": LABELS["small"]})


def test_a_kind_has_the_same_colour_in_every_figure(figures):
    panel = shown(figures["sink_by_intervention"])[0]
    assert {colour(kind) for kind in DOSES} <= set(curves(panel))
    assert colour("norm_control") in curves(shown(figures["edited_layers"])[0])
    frames = [tuple(np.round(patch.get_edgecolor()[:3], 3)) for patch in shown(figures["dispersion_grid"])[0].patches]
    assert set(frames) == {colour("variance_amplification"), colour("norm_control")}


def test_a_dose_curve_begins_at_the_unedited_score_unless_strength_1_edits_too(figures):
    ax = shown(figures["sink_by_intervention"])[0]
    assert "position 10" in ax.texts[0].get_text() and ax.get_xscale() == "log"
    assert curves(ax)[colour("variance_amplification")] == [0.01, 0.04, 0.08, 0.16]
    assert len(curves(ax)[colour("shuffled_deviations")]) == 3
    assert len(bands(ax)) == len(DOSES)


def test_the_mask_the_unedited_score_and_that_of_a_sink_are_lines_across_the_panel(figures):
    for ax in shown(figures["sink_by_intervention"]):
        assert levels(ax) == {0.2, 0.01, 3 * 0.04}  # not the mask of layers that no amplification edits


def test_estimates_without_an_interval_are_drawn_without_a_bar_or_band():
    """Where the sequences come from too few documents."""
    table = study(("small",))
    unknown = [name for name in table.columns if name.endswith(("_low", "_high", "_low_all", "_high_all"))]
    table = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in unknown)
    for ax in [*shown(draw_sinks(table, LABELS)), *shown(draw_necessity(table, LABELS))]:
        assert ax.lines and not [path for band in bands(ax) for path in band.get_paths()]
        assert not [found for found in ax.collections if isinstance(found, LineCollection)]


def test_all_models_and_targets_have_one_scale(figures):
    assert len({ax.get_ylim() for ax in shown(figures["sink_by_intervention"])}) == 1
    for row in range(3):
        assert len({ax.get_ylim() for ax in shown(figures["edited_layers"])[row::3]}) == 1


def test_a_study_of_masks_alone_shows_all_of_them():
    masks = [edit("mask"), edit("mask", 0.012, layers=range(20, 24))]
    figure = draw_sinks(study(("small",), masks), LABELS)
    assert levels(shown(figure)[0]) == {0.2, 0.012, 0.01, 3 * 0.04} and "layers 20–23" in words(figure)
    assert "strength" not in words(figure)
    layers = draw_layers(by_layer(("small",), [*masks, edit("baseline", 0.01, strength=None)]), LABELS)
    assert max(curves(shown(layers)[0])[colour("mask")]) == 0.2 and "λ" not in words(layers)


def test_one_strength_is_a_point_with_its_interval_and_no_curve():
    figure = draw_sinks(study(("small",), doses(strengths=(8.0,))), LABELS)
    (ax,) = shown(figure)
    assert curves(ax)[colour("variance_amplification")] == [0.16] and not bands(ax)
    assert sum(isinstance(found, LineCollection) for found in ax.collections) == len(DOSES)


def test_the_grid_the_edits_of_position_0_and_those_after_the_projection_are_no_doses():
    later = doses(kinds=("variance_amplification",), strengths=(2.0, 4.0, 8.0, 16.0), site="attention_output")
    later = [row | {"intervention": "after_output", "score": 0.9} for row in later]
    calibrated = edit("variance_amplification", 0.7, strength=8.0, intervention="calibrated")
    records = [*doses(), calibrated, *later, *grid(), *necessary()]
    figure = draw_sinks(study(("small",), records), LABELS)
    (ax,) = shown(figure)
    assert curves(ax)[colour("variance_amplification")] == [0.01, 0.04, 0.08, 0.16] and len(bands(ax)) == len(DOSES)


def test_more_targets_than_fit_go_on_below_and_a_place_without_edits_stays_empty():
    records = [row for target in range(1, 8) for row in doses(target, DOSES[:2])]
    table = study(("small",), records)
    other = table.filter(pl.col("target") < 3).with_columns(model=pl.lit("control"))
    figure = draw_sinks(pl.concat([table, other]), LABELS)
    figure.draw_without_rendering()
    assert len(shown(figure)) == 9
    first = shown(figure)[:7]
    assert len({round(ax.get_window_extent().y0) for ax in first}) == 2
    assert [bool(ax.get_ylabel()) for ax in first] == [True, False, False, False, True, False, False]


def test_positions_that_are_edited_together_are_named():
    rows = [*doses(), *(row | {"positions": [10, 20]} for row in doses())]
    figure = draw_sinks(study(("small",), rows), LABELS)
    assert len(shown(figure)) == 2 and "position 10 (with 20)" in words(figure)


def test_layer_sets_differ_in_their_dashes():
    figure = draw_sinks(study(("small",), [*doses(), *doses(layers=range(8, 12))]), LABELS)
    blue = [line for line in shown(figure)[0].lines if tuple(np.round(line.get_color(), 3)) == colour(DOSES[0])]
    assert len({line.get_linestyle() for line in blue}) == 2 and "layers 8–11" in words(figure)


def test_a_contrast_is_that_of_the_strength_nearest_to_8(figures):
    difference, size = shown(figures["intervention_contrasts"])[:2]
    assert rows_of(difference) == [
        "− shuffled deviations", "position 10, λ = 8", "position 40, λ = 8",
        "− norm control", "position 10, λ = 8", "position 40, λ = 8",
    ]  # fmt: skip
    points = [line for line in difference.lines if line.get_marker() != "None"]
    assert [line.get_ydata()[0] for line in points] == [1, 2, 4, 5]
    assert all(line.get_xdata()[0] == pytest.approx(0.19) for line in points)
    assert [line.get_xdata()[0] for line in size.lines if line.get_marker() != "None"] == [1.5] * 4


def test_a_contrast_has_its_own_interval_thick_and_that_among_all_comparisons_thin(figures):
    difference, size = shown(figures["intervention_contrasts"])[:2]
    found = [
        (float(line.get_linewidth()[0]), *np.round(line.get_segments()[0][:, 0], 3)) for line in difference.collections
    ]
    thin, thick = found[:2]
    assert thin[0] < thick[0] and thin[1:] == (0.1, 0.3) and thick[1:] == (0.171, 0.209)
    assert len(size.collections) == len(difference.collections) / 2


def test_of_several_amplifications_the_one_with_most_strengths_is_held_against_the_controls():
    records = [contrast("norm_control", strength=strength) for strength in (2.0, 8.0)]
    records.append(contrast("norm_control", treatment="calibrated", score=0.9))
    records.append(contrast("after_output", control_kind="variance_amplification", control_site="attention_output"))
    records.append(contrast("random_directions", control_site="attention_output"))
    difference = shown(draw_contrasts(contrasts(("small",), records), LABELS))[0]
    assert rows_of(difference) == [
        "− random directions after W_O", "position 10, λ = 8", "− norm control", "position 10, λ = 8",
    ]  # fmt: skip


def test_an_effect_size_that_is_not_defined_leaves_the_difference():
    record = contrast("norm_control", effect_size=None, effect_size_low=None, effect_size_high=None)
    difference, size = shown(draw_contrasts(contrasts(("small",), [record]), LABELS))
    assert len(difference.collections) == 2 and not size.collections


def test_a_study_without_contrasts_says_so():
    assert "no edit at the same layers" in words(draw_contrasts(contrasts(records=[]), LABELS))


def test_masks_are_ordered_by_layer_and_sinks_are_marked():
    masks = [edit("mask", 0.012, layers=layers) for layers in (range(20, 24), range(10, 14), [0])] + [edit("mask")]
    masks.append(edit("mask", target=40))
    figure = draw_masks(study(("small",), masks), LABELS)
    ax = shown(figure)[0]
    assert rows_of(ax) == ["layer 0", "layers 0–3", "layers 10–13", "layers 20–23"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "40"]
    values = cells(ax)
    assert values.shape == (4, 2) and values[1].tolist() == pytest.approx([0.19, 0.19])
    assert values.mask.tolist() == [[False, True], [False, False], [False, True], [False, True]]
    written = [text.get_text() for text in ax.texts if text.get_text().startswith(("+", "−"))]
    assert written == ["+0.002", "+0.190 ●", "+0.190 ●", "+0.002", "+0.002"]


def test_models_with_one_set_of_masked_layers_are_left_out_unless_all_have_one():
    one, two = study(("control",), [edit("mask")]), study(("small",))
    figure = draw_masks(pl.concat([two, one]), LABELS)
    assert LABELS["control"] not in words(figure)
    assert rows_of(shown(draw_masks(one, LABELS))[0]) == ["layers 0–3"]


def test_the_grid_has_large_deviations_above_and_frames_around_its_two_lines(figures):
    ax = shown(figures["dispersion_grid"])[0]
    assert rows_of(ax) == ["2", "1"] and [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2"]
    assert cells(ax)[0].tolist() == pytest.approx([0.08, 0.04 / 1.5, 0.016])
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    amplified = [patch for patch in boxes if patch.get_height() > 1]
    scaled = [patch for patch in boxes if patch.get_height() < 1]
    assert [int(patch.get_x()) for patch in amplified] == [1]
    assert [(int(patch.get_x()), int(patch.get_y())) for patch in scaled] == [(1, 1), (2, 0)]
    text = words(figures["dispersion_grid"])
    assert "λ/α 0.50 [0.45, 0.55]" in text and "with λ −0.20 [−0.22, −0.18]" in text and "unedited 0.010" in text


def test_a_grid_whose_correlations_are_missing_is_drawn():
    text = words(draw_grid(study(), tau_table(()), LABELS))
    assert "not measured" in text


def test_a_necessity_edit_shows_what_is_left_and_where_the_rest_goes(figures):
    axes = shown(figures["necessity"])
    text, second = axes[:2]
    loss = next(ax for ax in axes if "loss" in ax.get_xlabel())
    assert rows_of(text) == [
        "unedited", "silent super neurons (layers 1–2, 8)", "averaged values, 2 vectors (layers 0–3)",
        "averaged values, 4 vectors (layers 0–3)", "dims to zero (layers 2, 11)",
    ]  # fmt: skip
    assert all(label == "" for ax in (second, loss) for label in rows_of(ax))
    points = [line for line in text.lines if line.get_marker() == "o"]
    assert len(points) == 5 and {line.get_xdata()[0] for line in points} == {0.4}
    others = [line for line in text.lines if line.get_marker() == "D"]
    assert {line.get_xdata()[0] for line in others} == {0.08}
    assert [note.get_text() for note in text.texts[:5]] == ["1"] * 5
    assert len([line for line in loss.lines if line.get_marker() == "s"]) == 4  # the unedited model changes nothing
    assert "+1.00" in words(figures["necessity"])


def test_losses_of_very_different_size_are_all_inside_their_axes():
    rows = necessary(loss=0.02)
    rows[-1] |= interval("loss_change", 13.0)
    rows[-2] |= interval("loss_change", -0.5)
    ax = shown(draw_necessity(study(("small",), rows), LABELS))[1]
    assert ax.get_xscale() == "symlog" and ax.get_xlim()[0] < -0.55 and ax.get_xlim()[1] > 14.3


def test_prompts_without_losses_have_no_panel_of_them():
    figure = draw_necessity(study(("small",), necessary("random_tokens", None)), LABELS)
    assert len(shown(figure)) == 1 and "loss" not in words(figure)


def test_the_layers_are_those_of_the_strongest_amplification_beside_position_0(figures):
    above, middle, below = shown(figures["edited_layers"])[:3]
    assert {colour(kind) for kind in ("variance_amplification", "mask", "norm_control")} < set(curves(above))
    assert len(above.lines) == 5  # and the two of the unedited model
    assert curves(above)[colour("variance_amplification")] == [0.16] * LAYERS
    assert curves(above)[colour("mask")] == [0.2] * LAYERS  # that of the same layers
    assert "λ = 8" in words(figures["edited_layers"]) and "position 10" in words(figures["edited_layers"])
    assert middle.get_yscale() == "log"
    assert curves(below)[colour("mask")] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert sorted({round(patch.get_x() + 0.5) for patch in above.patches}) == [0, 1, 2, 3]
    assert "unedited, position 0" in words(figures["edited_layers"])


def test_position_0_is_not_in_the_legend_of_a_study_that_does_not_have_it():
    figure = draw_layers(by_layer(records=doses()), LABELS)
    assert "position 0" not in words(figure)


def test_the_same_tables_give_the_same_svg_in_this_process_and_in_a_fresh_one(tmp_path):
    save_all_as_svg(tmp_path / "here")
    path = os.pathsep.join([str(Path(style.__file__).parents[2]), str(Path(__file__).parent)])
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\n")  # a user's settings do not count
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, test_figures_interventions as t; t.save_all_as_svg(sys.argv[1])",
            tmp_path / "fresh",
        ],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path)},
        check=True,
    )
    names = sorted(file.name for file in (tmp_path / "here").iterdir())
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes(), name


@pytest.mark.parametrize(
    "name", ["sink_by_intervention", "mask_by_layers_and_position", "edited_layers", "dispersion_grid", "necessity"]
)
def test_a_study_in_which_no_such_edit_could_be_made_says_so(name):
    records = [edit("baseline", 0.01, strength=None, layers=[], site=None, target=target) for target in (0, 10)]
    table = by_layer(records=records) if name == "edited_layers" else study(records=records)
    draw = {
        "sink_by_intervention": draw_sinks, "mask_by_layers_and_position": draw_masks, "edited_layers": draw_layers,
        "dispersion_grid": lambda table, labels: draw_grid(table, tau_table(()), labels), "necessity": draw_necessity,
    }[name]  # fmt: skip
    figure = draw(table, LABELS)
    assert "no edit that is shown here could be made; the claims say why" in words(figure) and not figure.axes


def test_layers_that_one_rule_gives_differently_are_called_by_the_rule():
    early = [row | {"layers_rule": "until_onset"} for row in [*doses(), edit("mask")]]
    other = [row | {"layers": [0, 1]} for row in early]
    table = pl.concat([study(("small",), early), study(("control",), other)])
    text = words(draw_sinks(table, LABELS))
    assert text.count("mask, layers: until onset") == 1 and "mask, layers 0–3" not in text
    assert "position 10, layers 0–3" in text and "position 10, layers 0–1" in text
    assert "mask, layers 0–3" in words(draw_sinks(study(("small",), early), LABELS))
    late = edit("mask", 0.012, layers=range(20, 24)) | {"layers_rule": "late"}
    figure = draw_masks(study(("small",), [*early, late]), LABELS)
    assert rows_of(shown(figure)[0]) == ["layers 0–3 (until onset)", "layers 20–23 (late)"]


def test_the_edited_layers_are_those_of_the_early_rule_where_one_is_there():
    early = [row | {"layers_rule": "until_onset"} for row in doses(layers=[0, 1])]
    late = [row | {"layers_rule": "late", "score": 0.9} for row in doses(layers=[2, 3])]
    above = shown(draw_layers(by_layer(("small",), [*late, *early]), LABELS))[0]
    assert sorted({round(patch.get_x() + 0.5) for patch in above.patches}) == [0, 1]


def test_an_edit_of_position_0_that_some_prompts_do_not_allow_is_marked_there():
    text = necessary()
    silent = [row | {"layers": [2], "layers_rule": "found"} for row in text if row["kind"] == "super_neuron_ablation"]
    tokens = [row for row in necessary("random_tokens", None) if row["kind"] in ("baseline", "value_averaging")]
    tokens += [
        row | {"prompts": "random_tokens", "layers": [2, 8]} | dict.fromkeys(("loss_change", "loss_change_low"))
        for row in silent
    ]
    rows = [row for row in text if row["kind"] != "super_neuron_ablation"]
    figure = draw_necessity(study(("small",), [*rows, *silent, *tokens]), LABELS)
    panels = shown(figure)
    assert "silent super neurons (layers: found)" in rows_of(panels[0])
    marked = [[note.get_text() for note in ax.texts].count("not run") for ax in panels]
    assert marked == [0, 0, 1]  # dims to zero, on random tokens
