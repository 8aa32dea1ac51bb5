"""Figures of the pretraining comparison: every run, its seeds, and nothing drawn where nothing was measured."""

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PolyCollection

from sinkorigin.figures import pretraining_comparison, style, training_dynamics
from sinkorigin.statistics.pretraining_comparison import Training, by_seed_table, comparison_table
from sinkorigin.statistics.training import Measured, training_table

RUNS = {"softmax": (12.0, 0.3, 3.9), "headwise_rmsnorm": (6.0, 0.07, 3.8), "sigmoid": (4.0, 0.02, 4.1)}
STEPS = (0, 50, 100, 200, 400, 800)
GROUPS = dict.fromkeys(RUNS, "softmax")


def trainings(runs=RUNS, seeds=(0, 1, 2)):
    made = []
    for run, (disparity, mass, loss) in runs.items():
        for seed in seeds:
            rng = np.random.default_rng(seed)
            share = [step / STEPS[-1] for step in STEPS]
            checkpoints = []
            for s, step in zip(share, STEPS, strict=True):
                found = [Measured(-1, "effective_rank", 90.0)]
                for layer in range(2):
                    jitter = 1 + 0.1 * rng.random()
                    own = 0.06 + (mass - 0.06) * s * jitter * (layer + 1) / 2
                    normalised = own * (3 if run == "sigmoid" else 1)
                    found += [
                        Measured(layer, "sink_mass", own, uniform=0.059),
                        Measured(layer, "sink_mass_normalised", normalised, uniform=0.059),
                        Measured(layer, "sink_rate", max(0, own - 0.2), epsilon=0.3),
                        Measured(layer, "dominance_ratio_first", 3 + disparity * s * jitter),
                        Measured(layer, "dominance_ratio_rest", 3.0),
                        Measured(layer, "norm_ratio", 1 + 2 * s * jitter),
                        Measured(layer, "effective_rank", 80 - 10 * s * jitter),
                    ]
                checkpoints.append((step, "natural_text", found))
            table = training_table(
                checkpoints, run=run, variant=run, seed=seed, step_tokens=1024, first_tokens={"natural_text": "drawn"}
            )
            losses = [7.6 - (7.6 - loss) * s**0.2 + 0.02 * seed for s in share[1:]]
            history = pl.DataFrame(
                {
                    "run": run, "variant": run, "seed": seed, "step": STEPS[1:],
                    "tokens": [1024 * step for step in STEPS[1:]], "train_loss": losses, "validation_loss": losses,
                }
            )  # fmt: skip
            baseline = "softmax" if "softmax" in runs else None
            made.append(Training(run, run, seed, baseline, 1_300_000, history, pl.DataFrame(table)))
    return made


def dynamics(made, groups=GROUPS):
    history, training = (pl.concat(getattr(one, name) for one in made) for name in ("history", "measured"))
    return training_dynamics.draw(history=history, training=training, groups=groups, prompts="natural_text")


def comparison(made, groups=GROUPS):
    by_seed = by_seed_table(made)
    return pretraining_comparison.draw(
        by_seed=pl.DataFrame(by_seed),
        comparison=pl.DataFrame(comparison_table(made, by_seed)),
        groups=groups,
        prompts="natural_text",
    )


def written(figure):
    texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return [" ".join(text.split()) for text in [*texts, *(ax.get_title(loc="left") for ax in figure.axes)]]


def test_dynamics_show_every_run_with_its_mean_and_the_range_of_its_seeds():
    made = trainings()
    figure = dynamics(made)
    assert len(figure.axes) == 6
    said = written(figure)
    assert "softmax, 3 seeds" in said and "sink mass under uniform attention" in said
    assert "thin: dominance ratio of the other tokens, sink mass with rows that sum to one" in said  # sigmoid's
    mass = figure.axes[1]
    [line] = [line for line in mass.lines if line.get_color() == style.PALETTE[0]]
    ends = [
        one.measured.filter((pl.col("over") == "largest") & (pl.col("quantity") == "sink_mass"))["value"][-1]
        for one in made[:3]
    ]
    assert line.get_ydata()[-1] == pytest.approx(np.mean(ends))
    band = next(part for part in mass.collections if isinstance(part, PolyCollection))
    assert band.get_paths()[0].get_extents().ymax == pytest.approx(max(ends))


def test_one_seed_and_runs_without_a_baseline_can_be_drawn():
    alone = trainings({"sigmoid": RUNS["sigmoid"]}, seeds=(0,))
    groups = {"sigmoid": "sigmoid"}
    assert "sigmoid, 1 seed" in written(dynamics(alone, groups))
    figure = comparison(alone, groups)
    assert "no baseline" in [ax.get_ylabel() for ax in figure.axes]


def test_comparison_draws_a_dot_a_seed_and_the_interval_of_the_table():
    made = trainings()
    by_seed = by_seed_table(made)
    table = pl.DataFrame(comparison_table(made, by_seed))
    figure = comparison(made)
    below = figure.axes[3]  # validation loss, differences
    row = table.filter((pl.col("run") == "sigmoid") & (pl.col("quantity") == "validation_loss")).to_dicts()[0]
    bars = [list(line.get_ydata()) for line in below.lines if len(line.get_xdata()) == 2]
    assert [row["difference_low"], row["difference_high"]] in bars
    dots = [line for line in figure.axes[2].lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in dots] == [3, 3, 3]


def test_groups_of_other_data_have_panels_of_their_own():
    groups = {"softmax": "text", "headwise_rmsnorm": "text", "sigmoid": "bigram"}
    assert len(dynamics(trainings(), groups).axes) == 12
    assert len(comparison(trainings(), groups).axes) == 24
