"""The figures of the structure, from the variance through W_O to the sinks: they say what their tables say."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.text import Text

from sinkorigin.figures import (
    channel_sparsity,
    effective_rank_by_layer,
    key_collapse,
    massive_activations,
    query_alignment,
    sinks_by_first_token,
    sinks_by_position,
    style,
    super_neurons,
    variance_through_output,
)
from sinkorigin.statistics import disparity, first_positions, keys, secondary_sinks, sinks
from sinkorigin.statistics import super_neurons as neurons
from sinkorigin.statistics.effective_rank import EFFECTIVE_RANK_SCHEMA
from sinkorigin.statistics.variance_through_output import SCHEMA as THROUGH_OUTPUT_SCHEMA

LABELS = {
    "small": "SmolLM2-135M-Instruct, dequantised from Q4_1",
    "control": "SmolLM2-135M-Instruct, random weights (seed 0)",
}
LAYERS, POSITIONS, WIDTH = 4, 8, 64
MIXTURE = "mixture of experts: no neuron is used by every token"


def interval(name: str, value: float | None) -> dict:
    low, high = (None, None) if value is None else sorted((0.9 * value, 1.1 * value))
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def frame(schema, records) -> pl.DataFrame:
    """A table with the real columns; what a record does not name is null."""
    empty = pl.DataFrame(schema.empty_table())
    return pl.DataFrame([dict.fromkeys(empty.columns) | record for record in records], schema=empty.schema)


def rows(models=tuple(LABELS), prompts=("random_tokens",)) -> list[dict]:
    return [{"model": model, "prompts": kind} for model in models for kind in prompts]


def through_output_table(models=tuple(LABELS), undefined=(), ratios=True, taus=True) -> pl.DataFrame:
    records = []
    for row in rows(models):
        for layer in range(LAYERS):
            known = layer not in undefined
            records.append(
                row
                | {"layer": layer, "not_applicable": None if known and ratios and taus else "the reason"}
                | interval("dim_tau", 0.2 - 0.1 * layer if known and taus else None)
                | interval("position_tau", 0.8 if known and taus else None)
                | {"ratio_before": 5.0 / (layer + 1) if known and ratios else None}
                | {"ratio_after": 4.0 / (layer + 1) if known and ratios else None}
            )
    return frame(THROUGH_OUTPUT_SCHEMA, records)


def neuron_table(models=tuple(LABELS), super_ones=9, gate=True, mixture=()) -> pl.DataFrame:
    records = []
    for row in rows(models):
        if row["model"] in mixture:
            records += [row | {"layer": layer, "not_applicable": MIXTURE} for layer in range(LAYERS)]
            continue
        chosen = 0 if row["model"] == "control" else super_ones
        for n in range(60):
            is_super = n < chosen
            records.append(
                row
                | {"rank": n + 1, "layer": n % LAYERS, "neuron": 100 + n, "super_neuron": is_super}
                | {"activation_ratio": 900.0 + n if is_super else 0.5 + 0.02 * n}
                | {"gate_norm_ratio": (3.0 if is_super else 1.0) + 0.01 * n if gate else None}
                | {"up_norm_ratio": 1.0 + 0.01 * n}
                | {"max_over_mean": 50.0 + n if is_super else 4.0 + 0.01 * n}
                | {"participation_ratio": 1.0 + 0.1 * n if is_super else 30.0 + 0.1 * n}
                | {"dim_1": 7 if n % 3 else n}
            )
    return frame(neurons.SUPER_NEURONS_SCHEMA, records[::-1])  # no figure may rely on the order of rows


def surge_table(models=tuple(LABELS), undefined=(), mixture=()) -> pl.DataFrame:
    return frame(
        neurons.SURGE_SCHEMA,
        [
            row
            | {"layer": layer, "before": 10.0**layer, "after": 10.0 ** (layer + 1)}
            | (
                {"not_applicable": MIXTURE}
                if layer in undefined or row["model"] in mixture
                else {"super_neurons": int(layer == 2), "without_largest": 0.3 * 10.0 ** (layer + 1)}
            )
            for row in rows(models)
            for layer in range(LAYERS)
        ],
    )


def collapse_table(models=tuple(LABELS), undefined=(), lowest=0.2) -> pl.DataFrame:
    names = ("between_sequences", "one_hot", "one_dim", "two_dims")
    return frame(
        keys.KEY_COLLAPSE_SCHEMA,
        [
            row
            | {"layer": layer, "head": head, "not_applicable": "the reason" if undefined else None}
            | {
                column: value
                for i, name in enumerate(names)
                for column, value in interval(
                    name, None if name in undefined else lowest if layer == 0 else 0.9 - 0.1 * i
                ).items()
            }
            for row in rows(models)
            for layer in range(LAYERS)
            for head in (None, 0, 1)
        ],
    )


def alignment_tables(models=tuple(LABELS), prompts=("random_tokens",), layers=LAYERS, correlation=0.554):
    heads = [
        row
        | {"layer": layer, "head": head}
        | interval("alignment", 0.1 * (layer + head))
        | interval("positive_ratio", 0.2 * (layer % 4))
        | interval("mass", 0.1 * layer)
        for row in rows(models, prompts)
        for layer in range(layers)
        for head in range(3)
    ]
    found = [
        row | {"quantity": name, "over": over, "count": count} | interval("correlation", value)
        for row in rows(models, prompts)
        for name in ("alignment", "positive_ratio")
        for over, count, value in (("layers", layers, 0.9), ("heads", 3 * layers, correlation))
    ]
    return {
        "query_alignment": frame(keys.QUERY_ALIGNMENT_SCHEMA, heads),
        "alignment_correlation": frame(keys.ALIGNMENT_CORRELATION_SCHEMA, found),
    }


def rank_table(models=tuple(LABELS), undefined=()) -> pl.DataFrame:
    return frame(
        EFFECTIVE_RANK_SCHEMA,
        [
            row
            | {"layer": layer, "positions": positions, "centred": centred, "width": WIDTH, "tokens": tokens}
            | {"effective_rank": None if layer in undefined else 40.0 - 5 * layer + 2 * centred}
            for row in rows(models)
            for layer in range(-1, LAYERS)
            for positions, tokens in (("all", 128), ("later", 112))
            for centred in (False, True)
        ],
    )


def rate_table(models=tuple(LABELS), epsilons=(0.2, 0.29, 0.5)) -> pl.DataFrame:
    return frame(
        sinks.SINK_RATE_SCHEMA,
        [
            row | {"epsilon": epsilon, "position": k} | interval("rate", epsilon if k == 0 else 0.01)
            for row in rows(models, ("random_tokens", "natural_text"))
            for epsilon in epsilons
            for k in range(POSITIONS)
        ],
    )


def secondary_table(tokens=("Ġthe", "Ċ", "$a$"), model="small") -> pl.DataFrame:
    return frame(
        secondary_sinks.SECONDARY_SINKS_SCHEMA,
        [
            {"model": model, "prompts": "natural_text", "token": token}
            | {"candidates": 40, "sinks": 30 - i, "share": (30 - i) / 40}
            for i, token in enumerate(tokens)
        ],
    )


def massive_table(models=tuple(LABELS), over_median=True) -> pl.DataFrame:
    return frame(
        disparity.MASSIVE_SCHEMA,
        [
            row
            | {"site": "residual", "layer": layer, "position": k, "max_abs": 10.0 ** (layer + 2)}
            | {"max_over_median": 5.0 * 10.0 ** (layer + 1) if over_median and layer > 0 else None}
            | interval("share", (1.0 if k == 0 else 0.25 if k == 1 else 0.0) * (layer > 1))
            for row in rows(models)
            for layer in range(-1, LAYERS)
            for k in range(5)
        ],
    )


GROUP = {"drawn": "random_tokens", "bos": "random_tokens_bos", "fixed": "random_tokens_fixed"}


def first_positions_table(models=tuple(LABELS), conditions=tuple(GROUP)) -> pl.DataFrame:
    """A sink at position 0 from layer 2 on, under BOS at position 1."""
    records = []
    for model in models:
        for condition in conditions:
            sink = 1 if condition == "bos" else 0
            records += [
                {
                    "model": model, "prompts": GROUP[condition], "first_token": condition, "layer": layer, "position": k,
                    **interval("mass", 0.6 if layer > 1 and k == sink else 0.05), "uniform": 0.06 - 0.01 * k,
                }
                for layer in range(LAYERS)
                for k in range(4)
            ]  # fmt: skip
    return frame(first_positions.SCHEMA, records)


DRAW = {
    "variance_through_output": lambda models, labels: variance_through_output.draw(
        variance_through_output=through_output_table(models), labels=labels
    ),
    "super_neurons": lambda models, labels: super_neurons.draw(
        super_neurons=neuron_table(models), super_neuron_surge=surge_table(models), labels=labels
    ),
    "channel_sparsity": lambda models, labels: channel_sparsity.draw(super_neurons=neuron_table(models), labels=labels),
    "massive_activations": lambda models, labels: massive_activations.draw(
        massive_activations=massive_table(models), labels=labels
    ),
    "key_collapse": lambda models, labels: key_collapse.draw(key_collapse=collapse_table(models), labels=labels),
    "query_alignment": lambda models, labels: query_alignment.draw(**alignment_tables(models), labels=labels),
    "effective_rank_by_layer": lambda models, labels: effective_rank_by_layer.draw(
        effective_rank=rank_table(models), labels=labels
    ),
    "sinks_by_first_token": lambda models, labels: sinks_by_first_token.draw(
        first_positions=first_positions_table(models), labels=labels, groups=[GROUP]
    ),
    "sinks_by_position": lambda models, labels: sinks_by_position.draw(
        sink_rate=rate_table(models), secondary_sinks=secondary_table(model=models[0]), labels=labels
    ),
}


def save_all_as_svg(directory: str) -> None:
    """Also called in a process of its own."""
    for name, draw in DRAW.items():
        style.save(draw(tuple(LABELS), LABELS), [Path(directory) / f"{name}.svg"])


@pytest.fixture(scope="module")
def figures():
    return {name: draw(tuple(LABELS), LABELS) for name, draw in DRAW.items()}


def words(figure) -> str:
    """All the text of a figure, its line breaks as spaces."""
    return " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")


def bands(ax) -> list[PolyCollection]:
    return [collection for collection in ax.collections if isinstance(collection, PolyCollection)]


def curves(ax) -> list[np.ndarray]:
    """What the lines through the layers show; lines across the panel and points are none."""
    return [
        np.asarray(line.get_ydata(), dtype=float)
        for line in ax.lines
        if line.get_linestyle() != "None" and list(line.get_xdata()) != [0, 1]
    ]


def levels(ax) -> set[float]:
    """Heights of the lines across the panel."""
    return {line.get_ydata()[0] for line in ax.lines if list(line.get_xdata()) == [0, 1]}


@pytest.mark.parametrize(
    ("name", "rows", "on_axes"),
    [
        ("variance_through_output", 2, ["layer", "variance at 0", "Kendall’s τ"]),
        ("super_neurons", 2, ["layer", "norm of gate weights / layer’s median", "mean |activation|", "ℓ2"]),
        ("channel_sparsity", 2, ["largest / mean |weight|", "participation ratio (dims)", "neurons"]),
        ("massive_activations", 2, ["layer (−1: embedding)", "magnitude", "share of sequences"]),
        ("key_collapse", 1, ["layer", "cosine"]),
        ("query_alignment", 2, ["|cos|", "q · (first key) > 0", "share of attention"]),
        ("effective_rank_by_layer", 1, ["layer (−1: embedding)", "effective rank", "(dims)"]),
        ("sinks_by_first_token", 2, ["layer", "sink mass of position 0", "largest mass of positions 1 to 3"]),
        ("sinks_by_position", 2, ["position (token)", "sink rate", "positions with the token"]),
    ],
)
def test_each_model_has_a_column_of_panels_whose_axes_name_their_units(figures, name, rows, on_axes):
    figure = figures[name]
    without = {"super_neurons": 1}.get(name, 0)  # the control has none, and a note says so
    assert len(figure.axes) == rows * (len(LABELS) - without)
    labels = " ".join(f"{ax.get_xlabel()} {ax.get_ylabel()}".replace("\n", " ") for ax in figure.axes)
    assert all(part in labels for part in on_axes)
    text = words(figure)
    assert all(label in text for label in LABELS.values()) and "random tokens" in text


@pytest.mark.parametrize("name", DRAW)
def test_no_text_is_clipped_or_covers_another_however_many_models(name):
    models = {
        f"m{i}": f"Organisation/A-rather-long-model-name-{i}B-Instruct, dequantised from Q4_K_M" for i in range(6)
    }
    figure = DRAW[name](tuple(models), models)
    figure.draw_without_rendering()  # lays it out
    renderer = figure._get_renderer()
    texts = [ax._left_title for ax in figure.axes] + [text for ax in figure.axes for text in ax.texts]
    texts += [ax.xaxis.label for ax in figure.axes] + [ax.yaxis.label for ax in figure.axes]
    texts += figure.legends[0].get_texts()
    # an annotation's own extent includes its line to the point
    boxes = [Text.get_window_extent(text, renderer) for text in texts if text.get_text()]
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


def test_a_layer_without_variance_through_the_projection_is_a_gap():
    figure = variance_through_output.draw(variance_through_output=through_output_table(undefined={2}), labels=LABELS)
    for ax in figure.axes:
        drawn = curves(ax)
        assert len(drawn) == 2
        assert all(np.isnan(values[2]) and np.isfinite(values[[0, 1, 3]]).all() for values in drawn)
        assert ax.get_xlim()[1] > LAYERS - 1
    corners = np.concatenate([path.vertices for path in bands(figure.axes[1])[0].get_paths()])
    assert 2 not in corners[:, 0]


def test_the_paper_s_tau_is_not_drawn_beside_ours(figures):
    taus = figures["variance_through_output"].axes[1]
    assert levels(taus) == {0} and taus.get_ylim() == (-1.05, 1.05)


def test_ratios_that_are_not_defined_leave_the_taus_and_their_ticks():
    figure = variance_through_output.draw(variance_through_output=through_output_table(ratios=False), labels=LABELS)
    above, below = figure.axes[:2]
    assert "the reason" in words(figure)
    assert not above.lines and len(curves(below)) == 2
    figure.draw_without_rendering()
    assert len(below.get_xticks()) > 2


def test_taus_that_are_not_defined_leave_the_ratios_and_their_ticks():
    figure = variance_through_output.draw(variance_through_output=through_output_table(taus=False), labels=LABELS)
    above, below = figure.axes[:2]
    assert len(curves(above)) == 2 and not below.lines
    figure.draw_without_rendering()
    assert len(above.get_xticks()) > 2


def test_the_six_super_neurons_of_best_rank_are_named_and_all_are_marked(figures):
    ax = figures["super_neurons"].axes[0]
    names = {text.get_text() for text in ax.texts if text.get_text() and "." in text.get_text()}
    assert names == {"0.100", "1.101", "2.102", "3.103", "0.104", "1.105"}
    others, unnamed, named = sorted(
        ax.lines, key=lambda line: (line.get_marker() != ".", line.get_markerfacecolor() != "white")
    )
    assert [len(line.get_xdata()) for line in (others, unnamed, named)] == [51, 3, 6]
    assert f"no super neuron: {LABELS['control']} (largest ratio of activations 1.68)" in words(
        figures["super_neurons"]
    )


def test_names_of_super_neurons_stay_beside_the_panel_and_apart_however_close_the_neurons():
    figure = super_neurons.draw(
        super_neurons=neuron_table(super_ones=6), super_neuron_surge=surge_table(), labels=LABELS
    )
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [Text.get_window_extent(text, figure._get_renderer()) for text in ax.texts if "." in text.get_text()]
    assert next(text.get_text() for text in ax.texts if "." in text.get_text()) == "1.105"
    assert len(boxes) == 6 and all(box.x0 > ax.bbox.x1 for box in boxes)
    heights = [(box.y0, box.y1) for box in boxes[::-1]]  # the highest neuron's name is the first
    assert all(below[1] <= above[0] for below, above in itertools.pairwise(heights))


def test_a_neuron_that_fires_for_the_first_token_only_or_never_for_it_stands_at_the_end_of_the_axis():
    table = neuron_table(super_ones=1).with_columns(
        activation_ratio=pl.when(pl.col("neuron") == 100)
        .then(np.inf)
        .when(pl.col("neuron") == 159)
        .then(0.0)
        .otherwise("activation_ratio")
    )
    ax = super_neurons.draw(super_neurons=table, super_neuron_surge=surge_table(), labels=LABELS).axes[0]
    low, high = ax.get_ylim()
    shown = np.concatenate([line.get_ydata() for line in ax.lines])
    assert len(shown) == 60 and (low < shown).all() and (shown < high).all()


def test_a_model_without_a_gate_shows_the_norm_of_its_up_weights():
    figure = super_neurons.draw(super_neurons=neuron_table(gate=False), super_neuron_surge=surge_table(), labels=LABELS)
    assert "norm of up weights" in words(figure) and "gate" not in words(figure)


def test_the_norm_without_the_largest_neuron_has_a_gap_and_its_layer_a_mark():
    ax = super_neurons.draw(
        super_neurons=neuron_table(), super_neuron_surge=surge_table(undefined={1}), labels=LABELS
    ).axes[1]
    after, without = curves(ax)
    assert after.tolist() == [10, 100, 1000, 10_000]
    assert np.isnan(without[1]) and without[2] == pytest.approx(300)
    marked = next(line for line in ax.lines if line.get_marker() == "v")
    assert list(marked.get_xdata()) == [2] and ax.get_yscale() == "log"


def test_a_mixture_of_experts_has_norms_but_no_neurons_and_says_why():
    table = neuron_table(mixture={"small"})
    figure = super_neurons.draw(super_neurons=table, super_neuron_surge=surge_table(mixture={"small"}), labels=LABELS)
    assert MIXTURE in words(figure)
    assert not figure.axes[0].axison and np.isfinite(curves(figure.axes[1])[0]).all()
    sparsity = channel_sparsity.draw(super_neurons=table, labels=LABELS)
    assert f"{LABELS['small']} ({MIXTURE})" in words(sparsity)
    assert len(sparsity.axes) == 2 and all(ax.patches for ax in sparsity.axes)


def test_nothing_but_mixtures_of_experts_can_still_be_drawn():
    table, models = neuron_table(mixture=set(LABELS)), surge_table(mixture=set(LABELS))
    assert words(super_neurons.draw(super_neurons=table, super_neuron_surge=models, labels=LABELS)).count(MIXTURE) == 2
    assert words(channel_sparsity.draw(super_neurons=table, labels=LABELS)).count(MIXTURE) == 2


def test_every_neuron_is_in_the_histogram_and_every_super_neuron_on_the_line_of_its_dim(figures):
    for name, ax in zip(channel_sparsity.MEASURES, figures["channel_sparsity"].axes[:2], strict=True):
        both = neuron_table()[name]  # the bins are the same for all models
        edges = np.geomspace(both.min() / 1.01, both.max() * 1.01, channel_sparsity.BINS + 1)
        counts = np.histogram(neuron_table(("small",))[name], edges)[0]
        assert counts.sum() == 60
        top = ax.patches[0].get_path().vertices[:, 1].max()
        assert top == counts.max()
        assert {text.get_text() for text in ax.texts if "dim" in text.get_text()} == {
            "dim 7",
            "dim 0",
            "dim 3",
            "dim 6",
        }
        points = {round(line.get_ydata()[0], 3): len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o"}
        assert sorted(points.values()) == [1, 1, 1, 6] and points[max(points)] == 6
        lowest = ax.transData.inverted().transform(ax.transAxes.transform((0, min(points))))[1]
        assert lowest > top  # no dot lies over a bar
        assert ax.get_xscale() == ax.get_yscale() == "log"


def test_many_dims_share_one_line():
    table = neuron_table(super_ones=20).with_columns(dim_1=pl.col("neuron"))
    ax = channel_sparsity.draw(super_neurons=table, labels=LABELS).axes[0]
    assert "16 other dims" in {text.get_text() for text in ax.texts}


def test_massive_activations_stand_beside_the_thresholds_that_define_them(figures):
    above, below = figures["massive_activations"].axes[:2]
    assert levels(above) == {100.0, 1000.0}
    first, later = curves(below)
    assert first.tolist() == [0, 0, 0, 1, 1] and later[-1] == pytest.approx(0.25 / 4)
    over = curves(above)[1]
    assert np.isnan(over[:2]).all() and np.isfinite(over[2:]).all()
    assert bands(below)


def test_a_model_in_which_nothing_is_large_still_shows_its_magnitudes():
    figure = massive_activations.draw(massive_activations=massive_table(over_median=False), labels=LABELS)
    assert np.isfinite(curves(figure.axes[0])[0]).all() and np.isnan(curves(figure.axes[0])[1]).all()


def test_the_cosines_of_keys_are_the_means_over_heads_with_their_intervals(figures):
    ax = figures["key_collapse"].axes[0]
    assert [len(values) for values in curves(ax)] == [LAYERS] * 4 and len(bands(ax)) == 4
    assert ax.get_ylim() == (-0.1, 1.05)


def test_a_cosine_below_the_axis_widens_it():
    ax = key_collapse.draw(key_collapse=collapse_table(lowest=-0.5), labels=LABELS).axes[0]
    assert ax.get_ylim()[0] < -0.55


def test_what_a_model_does_not_define_of_its_keys_is_left_out_and_the_reason_stands_there():
    missing = ("one_hot", "one_dim", "two_dims")
    figure = key_collapse.draw(key_collapse=collapse_table(undefined=missing), labels=LABELS)
    assert "the reason" in words(figure)
    drawn = curves(figure.axes[0])
    assert np.isfinite(drawn[0]).all() and all(np.isnan(values).all() for values in drawn[1:])
    empty = key_collapse.draw(key_collapse=collapse_table(undefined=("between_sequences", *missing)), labels=LABELS)
    assert not empty.axes and words(empty).count("the reason") == 2


def test_every_head_is_a_point_and_its_depth_a_shape(figures):
    for ax in figures["query_alignment"].axes:
        assert sum(len(line.get_xdata()) for line in ax.lines) == 3 * LAYERS
        assert len({line.get_marker() for line in ax.lines}) == 3
    assert "random tokens, 12 heads: ρ = 0.55 [0.50, 0.61]" in words(figures["query_alignment"])


def test_query_alignment_is_of_the_first_prompts_of_each_model_only():
    figure = query_alignment.draw(**alignment_tables(prompts=("natural_text", "random_tokens")), labels=LABELS)
    assert "natural text" in words(figure) and "random tokens" not in words(figure)
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == 3 * LAYERS


@pytest.mark.parametrize("layers", [1, 2])
def test_a_model_of_few_layers_has_all_its_heads_too(layers):
    figure = query_alignment.draw(**alignment_tables(layers=layers), labels=LABELS)
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == 3 * layers


def test_a_correlation_that_is_not_defined_or_zero_is_written_so():
    assert "12 heads: no ρ" in words(query_alignment.draw(**alignment_tables(correlation=None), labels=LABELS))
    assert "ρ = 0.00 [0.00, 0.00]" in words(query_alignment.draw(**alignment_tables(correlation=-0.001), labels=LABELS))


def test_the_effective_rank_has_the_width_as_its_ceiling_and_names_its_tokens():
    figure = effective_rank_by_layer.draw(effective_rank=rank_table(undefined={1}), labels=LABELS)
    ax = figure.axes[0]
    assert levels(ax) == {WIDTH} and ax.get_ylim()[0] == 0
    assert "128 tokens, 112 without position 0" in words(figure)
    assert all(np.isnan(values[2]) and np.isfinite(values[[0, 1, 3, 4]]).all() for values in curves(ax))
    thick = [line.get_linewidth() for line in ax.lines if list(line.get_xdata()) != [0, 1]]
    assert thick[0] > thick[1] and thick[2] > thick[3]
    nothing = effective_rank_by_layer.draw(effective_rank=rank_table(undefined=range(-1, LAYERS)), labels=LABELS)
    assert not nothing.axes and "not measured" in words(nothing)


def test_the_mass_of_each_condition_is_drawn_and_the_position_that_has_it_instead(figures):
    above, below = figures["sinks_by_first_token"].axes[:2]
    assert [values[-1] for values in curves(above)] == [0.6, 0.05, 0.6] and len(bands(above)) == 3
    assert [values[-1] for values in curves(below)] == [0.05, 0.6, 0.05]
    assert levels(above) == {0.06} and [*levels(below)] == [pytest.approx(0.05)]
    assert words(figures["sinks_by_first_token"]).count("position of the largest: 1 (drawn), 1 (bos), 1 (fixed)") == 2


def test_a_model_without_bos_has_the_other_conditions_and_says_so():
    lacking = first_positions_table(("small",), ("drawn", "fixed"))
    table = pl.concat([lacking, first_positions_table(("control",))])
    figure = sinks_by_first_token.draw(first_positions=table, labels=LABELS, groups=[GROUP])
    assert [len(curves(ax)) for ax in figure.axes] == [2, 2, 3, 3]
    assert words(figure).count("random tokens; not applicable: bos") == 1


def test_the_sink_rate_is_that_of_the_epsilon_nearest_to_0_3(figures):
    above = figures["sinks_by_position"].axes[0]
    assert [values[0] for values in curves(above)] == [0.29, 0.29] and len(bands(above)) == 2
    assert "ε = 0.29" in words(figures["sinks_by_position"])


def test_secondary_sinks_are_named_as_a_reader_sees_them(figures):
    below = figures["sinks_by_position"].axes[1]
    assert [label.get_text() for label in below.get_yticklabels()] == ["␣the", "↵", "$a$"]
    assert not any(label.get_parse_math() for label in below.get_yticklabels())
    assert [bar.get_width() for bar in below.patches] == [40, 30, 40, 29, 40, 28]
    assert "29 of 40" in words(figures["sinks_by_position"])
    assert "no secondary sink found" in words(figures["sinks_by_position"])  # the control has none


def test_only_the_six_tokens_with_most_secondary_sinks_are_shown():
    figure = sinks_by_position.draw(
        sink_rate=rate_table(), secondary_sinks=secondary_table([f"t{i}" for i in range(12)]), labels=LABELS
    )
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == [f"t{i}" for i in range(6)]


def test_no_secondary_sink_at_all_can_be_drawn():
    figure = sinks_by_position.draw(sink_rate=rate_table(), secondary_sinks=secondary_table(()), labels=LABELS)
    assert words(figure).count("no secondary sink found") == 2


@pytest.mark.parametrize(
    ("token", "seen"),
    [("▁of", "␣of"), ("ĊĊ", "↵↵"), ("<0x0A>", "<0x0A>"), ("中", "U+4E2D"), ("Ġ" * 30, "␣" * 13 + "…"), ("", "(empty)")],
)
def test_a_token_is_written_with_signs_that_the_font_has(token, seen):
    assert sinks_by_position.as_seen(token) == seen


def test_the_same_tables_give_the_same_svg_in_this_process_and_in_a_fresh_one(tmp_path):
    save_all_as_svg(tmp_path / "here")
    path = os.pathsep.join([str(Path(style.__file__).parents[2]), str(Path(__file__).parent)])
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\n")  # a user's settings do not count
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, test_figures_structure as t; t.save_all_as_svg(sys.argv[1])",
            tmp_path / "fresh",
        ],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path)},
        check=True,
    )
    names = sorted(file.name for file in (tmp_path / "here").iterdir())
    assert len(names) == len(DRAW)
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes(), name


def test_the_palette_and_the_style_are_seaborn_s():
    """They are written out, because importing seaborn takes as long as drawing a figure."""
    import seaborn

    assert list(seaborn.color_palette("colorblind", 10)) == style.PALETTE
    theirs = seaborn.axes_style("ticks") | seaborn.plotting_context("paper")
    assert {name: theirs[name] for name in style.SEABORN} == style.SEABORN
    assert theirs.keys() - style._RC.keys() == {"image.cmap"}, "each figure names its colour map"


def test_a_figure_without_seaborn_s_drawing_does_not_import_it():
    code = "import sys, sinkorigin.figures.chain, sinkorigin.figures.evidence; print('seaborn' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert done.stdout.strip() == "False"


def test_no_setting_of_the_reader_changes_a_figure(tmp_path):
    import matplotlib

    own = {"axes.facecolor": "black", "xtick.bottom": False, "axes.spines.left": False, "grid.linestyle": ":"}
    with matplotlib.rc_context(own):
        save_all_as_svg(tmp_path / "own")
    save_all_as_svg(tmp_path / "plain")
    for file in (tmp_path / "plain").iterdir():
        assert (tmp_path / "own" / file.name).read_bytes() == file.read_bytes(), file.name
