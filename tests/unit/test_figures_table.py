"""The table of figures: what each reads and takes, which a study has, and what is wrong with an entry."""

import copy
import inspect
from dataclasses import replace
from importlib import import_module

import polars as pl
import pytest

from harness.config.reading import read_config
from harness.figures import FIGURES, Figure, check_figures, first_prompts
from harness.study import Study
from scripts_by_hand import run_script
from sinkorigin.errors import SinkoriginError
from sinkorigin.figures import loss_curves, style
from sinkorigin.tables import write_table
from tiny_study import FIGURES as EVERY_STUDY
from tiny_study import INTERVENTION_FIGURES, TINY

LOSSES = next(figure for figure in FIGURES if figure.name == "loss_curves")
MADE = {pattern for figure in FIGURES for pattern in figure.patterns().values()}
TRAININGS = ["loss_curves", "training_dynamics", "pretraining_comparison"]


def study(**changes):
    return Study(read_config(copy.deepcopy(TINY) | changes), "cpu")


def had(**changes) -> set[str]:
    return {figure.name for figure in FIGURES if figure.when(study(**changes))}


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_draws_from_its_tables_its_settings_and_the_labels_of_its_models(figure):
    parameters = inspect.signature(import_module(f"sinkorigin.figures.{figure.name}").draw).parameters
    assert set(parameters) == {*figure.tables, *figure.keywords(study())}


def test_a_study_has_the_figures_of_what_it_does():
    assert had() == {*EVERY_STUDY, *INTERVENTION_FIGURES, *TRAININGS}
    assert had(interventions=[]) == {*EVERY_STUDY, *TRAININGS}
    assert had(pretraining=TINY["pretraining"] | {"runs": []}) == {*EVERY_STUDY, *INTERVENTION_FIGURES}
    by_kind = {edit["name"]: edit for edit in TINY["interventions"]}
    only = {kind: had(interventions=[by_kind[kind]]) & {*INTERVENTION_FIGURES} for kind in ("mask", "grid", "matched")}
    assert only == {
        "mask": {"sink_by_intervention", "mask_by_layers_and_position", "edited_layers"},
        "grid": {"dispersion_grid"},
        "matched": {"necessity"},
    }


def test_most_figures_read_the_first_prompts_of_each_model_and_show_these_models():
    trained = ["softmax-seed0", "headwise_rmsnorm-seed0", "backcopy-seed0"]
    figure = Figure("norms", ("norms",), first_prompts)
    assert figure.inputs(study()) == {
        "norms": [
            *(f"results/tiny/statistics/{model}/random_tokens/norms.parquet" for model in ("tiny", "tiny-random")),
            *(f"results/tiny/statistics/{model}/natural_text/norms.parquet" for model in trained),
        ],
        # what the fetched models were dequantised from
        "provenance": [f"results/models/{model}.provenance.json" for model in ("tiny", "tiny-random")],
    }
    assert list(figure.keywords(study())["labels"]) == ["tiny", "tiny-random", *trained]
    assert LOSSES.inputs(study())["history"][0] == "results/tiny/pretraining/softmax/seed=0/history.parquet"


def test_trained_models_are_shown_on_text_where_there_is_some():
    dynamics = next(figure for figure in FIGURES if figure.name == "training_dynamics")
    for names, shown in ((["random_tokens", "natural_text"], "natural_text"), (["random_tokens"], "random_tokens")):
        settings = dynamics.keywords(study(pretraining=TINY["pretraining"] | {"prompts": names}))
        assert settings["prompts"] == shown
        assert settings["groups"]["headwise_rmsnorm"] == "plays, baseline softmax"


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ({"name": "m", "source": "path:folder"}, "m"),
        ({"name": "m", "source": "path:folder", "label": "a model"}, "a model"),
    ],
)
def test_a_label_is_the_one_of_the_config_or_the_name(model, label):
    assert study(models=[model], interventions=[]).labels()["m"] == label


def test_a_trained_model_is_called_by_its_run_and_seed():
    assert study().labels()["headwise_rmsnorm-seed0"] == "headwise rmsnorm, seed 0"


def test_the_table_itself_is_whole_and_every_figure_has_a_caption():
    check_figures(FIGURES, MADE)
    assert [figure.name for figure in FIGURES if figure.caption is None] == []


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ([LOSSES, LOSSES], "figure loss_curves is registered twice; remove one entry"),
        ([replace(LOSSES, name="lost")], r"figure lost has no .*sinkorigin/figures/lost\.py; write it"),
        (
            [replace(LOSSES, tables=("losses",))],
            r"figure loss_curves reads losses, but no rule makes statistics/.*/losses\.parquet; correct",
        ),
    ],
)
def test_a_wrong_entry_is_told_in_one_sentence(figures, sentence):
    with pytest.raises(SinkoriginError, match=sentence):
        check_figures(figures, MADE)


def test_the_script_draws_the_figure_that_it_is_given_from_all_files_of_a_table(tmp_path):
    paths = [tmp_path / f"seed={seed}.parquet" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        history = {"run": "softmax", "variant": "softmax", "seed": seed, "step": [1], "tokens": [10]}
        history |= {"train_loss": [3.0], "validation_loss": [3.0 + seed]}
        table = pl.DataFrame(history).to_arrow()
        write_table(path, table, table.schema)
    figure = tmp_path / "figure.svg"
    drawn = {"figure": "loss_curves", "keywords": {}}
    run_script("plot.py", tmp_path, inputs={"history": paths}, outputs={"figure": figure}, params=drawn)
    style.save(loss_curves.draw(history=pl.concat(map(pl.read_parquet, paths))), [tmp_path / "expected.svg"])
    assert figure.read_bytes() == (tmp_path / "expected.svg").read_bytes()
