"""The table of figures: what each reads and takes, which a study has, and what is wrong with an entry."""

import copy
import inspect
import re
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import polars as pl
import pytest

from harness.config.reading import read_config
from harness.figures import FIGURES, Figure, check_figures, shown_prompts
from harness.missing import Failure, Missing
from harness.study import Study
from scripts_by_hand import run_script
from sinkorigin.errors import SinkoriginError
from sinkorigin.figures import loss_curves, style
from sinkorigin.tables import write_table
from tiny_study import FIGURES as EVERY_STUDY
from tiny_study import INTERVENTION_FIGURES, MECHANISM_FIGURES, TINY

LOSSES = next(figure for figure in FIGURES if figure.name == "loss_curves")
MADE = {pattern for figure in FIGURES for pattern in figure.patterns().values()}
FAILURE = Failure("fetch_model", {"model": "tiny"}, "model tiny: it is damaged; take another", "a.log")
TEXTS = ["random_tokens", "natural_text"]
TRAININGS = ["loss_curves", "training_dynamics", "pretraining_comparison"]


def study(**changes):
    return Study(read_config(copy.deepcopy(TINY) | changes), "cpu")


def had(**changes) -> set[str]:
    return {figure.name for figure in FIGURES if figure.when(study(**changes))}


CONDITIONS = [*TINY["prompts"], TINY["prompts"][0] | {"name": "with_bos", "first_token": "bos"}]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_draws_from_its_tables_its_settings_and_the_labels_of_its_models(figure):
    parameters = inspect.signature(import_module(f"sinkorigin.figures.{figure.name}").draw).parameters
    assert set(parameters) == {*figure.tables, *figure.keywords(study(prompts=CONDITIONS))}


def test_a_study_has_the_figures_of_what_it_does():
    assert had() == {*EVERY_STUDY, *INTERVENTION_FIGURES, *MECHANISM_FIGURES, *TRAININGS}
    assert had(interventions=[]) == {*EVERY_STUDY, *TRAININGS}
    assert had(pretraining=TINY["pretraining"] | {"runs": []}) == had() - {*TRAININGS}
    by_kind = {edit["name"]: edit for edit in TINY["interventions"]}
    only = {kind: had(interventions=[by_kind[kind]]) & {*INTERVENTION_FIGURES} for kind in ("mask", "grid", "matched")}
    assert only == {
        "mask": {"sink_by_intervention", "mask_by_layers_and_position", "edited_layers"},
        "grid": {"dispersion_grid"},
        "matched": {"necessity"},
    }


def test_edits_that_are_followed_have_figures_of_the_models_on_which_they_are():
    assert had(mechanism={"causes": []}) == had() - {*MECHANISM_FIGURES}
    chain = next(figure for figure in FIGURES if figure.name == "chain")
    assert chain.inputs(study())["mediation"] == ["results/tiny/statistics/tiny/random_tokens/mediation.parquet"]
    assert "sinkorigin.interventions.kinds.mask" in chain.modules(study())


def test_curves_are_compared_where_a_treatment_and_its_control_have_strengths():
    edits = {edit["name"]: edit for edit in TINY["interventions"]}
    for names, there in (
        (["variance_amplification", "norm_control"], True),
        (["variance_amplification", "mask"], False),
    ):
        assert ("conversion_curves" in had(interventions=[edits[name] for name in names])) == there


def test_prompts_that_differ_in_their_first_token_alone_are_compared_on_fetched_models():
    figure = next(figure for figure in FIGURES if figure.name == "sinks_by_first_token")
    with_bos = study(prompts=CONDITIONS)
    assert figure.when(with_bos) and not figure.when(study())
    assert figure.keywords(with_bos)["groups"] == [{"drawn": "random_tokens", "bos": "with_bos"}]
    assert figure.inputs(with_bos)["first_positions"] == [
        f"results/tiny/statistics/{model}/{prompts}/first_positions.parquet"
        for model in ("tiny", "tiny-random")
        for prompts in ("random_tokens", "with_bos")
    ]
    other = [*TINY["prompts"], CONDITIONS[-1] | {"length": 12}]
    assert not figure.when(study(prompts=other))
    assert not figure.when(study(prompts=[*TINY["prompts"], TINY["prompts"][0] | {"name": "again"}]))


def test_what_a_trained_model_reads_says_how_it_begins():
    def first_token(model, prompts):
        return study(prompts=CONDITIONS).first_token_of(SimpleNamespace(model=model, prompts=prompts))

    assert first_token("tiny", "with_bos") == "bos" and first_token("tiny", "natural_text") == "drawn"
    assert first_token("softmax-seed0", "natural_text") == "drawn"
    assert first_token("backcopy-seed0", "natural_text") == "bos"  # it was trained with its end-of-text token in front
    assert first_token("backcopy-seed0", "random_tokens") == "drawn"


def test_most_figures_read_the_shown_prompts_of_each_model_and_show_these_models():
    trained = ["softmax-seed0", "headwise_rmsnorm-seed0", "backcopy-seed0"]
    figure = Figure("norms", ("norms",), shown_prompts)
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


def without(*files) -> Study:
    return study().without(Missing([FAILURE], {f"results/tiny/{file}": 0 for file in files}))


def test_a_figure_shows_the_models_of_which_all_its_tables_are_there_and_names_the_others():
    figure = next(figure for figure in FIGURES if figure.name == "norm_and_sink_by_layer")
    less = without("statistics/tiny-random/random_tokens/sink_onset.parquet")
    assert [tables for tables in figure.inputs(less).values() if any("tiny-random" in file for file in tables)] == []
    assert "tiny-random" in figure.keywords(study())["labels"] and "tiny-random" not in figure.keywords(less)["labels"]
    assert (figure.lacks(study()), figure.lacks(less)) == ([], ["tiny-random"])
    assert figure.is_there(less)
    nothing = without(
        *(f"statistics/{pair['model']}/{pair['prompts']}/norm_surge.parquet" for pair in shown_prompts(study()))
    )
    assert not figure.is_there(nothing)


def test_a_run_that_is_missing_is_in_no_group_of_a_figure():
    dynamics = next(figure for figure in FIGURES if figure.name == "training_dynamics")
    less = without("statistics/training/headwise_rmsnorm/manifest.json")
    assert list(dynamics.keywords(less)["groups"]) == ["softmax", "backcopy"]
    assert dynamics.lacks(less) == ["headwise_rmsnorm, seed 0"]
    assert LOSSES.lacks(less) == []
    comparison = next(figure for figure in FIGURES if figure.name == "pretraining_comparison")
    assert not comparison.is_there(without("statistics/pretraining_comparison.parquet"))


def test_a_figure_of_interventions_is_left_out_where_no_edit_that_it_shows_was_measured():
    necessity = next(figure for figure in FIGURES if figure.name == "necessity")
    interventions = [
        {**edit, "models": ["tiny-random"] if edit["name"] == "mask" else ["tiny"]} for edit in TINY["interventions"]
    ]
    both = study(interventions=interventions)
    less = both.without(
        Missing([FAILURE], {f"results/tiny/statistics/tiny/{prompts}/interventions.parquet": 0 for prompts in TEXTS})
    )
    assert necessity.is_there(both) and not necessity.is_there(less)
    mask = next(figure for figure in FIGURES if figure.name == "mask_by_layers_and_position")
    assert mask.is_there(less) and mask.lacks(less) == ["tiny"]


def test_what_a_figure_lacks_stands_above_it(tmp_path):
    history = {"run": "softmax", "variant": "softmax", "seed": 0, "step": [1, 2], "tokens": [10, 20]}
    history |= {"train_loss": [3.0, 2.0], "validation_loss": [3.0, 2.0]}
    heights = []
    for lacks in ([], ["a model"]):
        style.save(
            loss_curves.draw(history=pl.DataFrame(history), groups={"softmax": ""}),
            [tmp_path / "figure.svg"],
            lacks=lacks,
        )
        drawn = (tmp_path / "figure.svg").read_text()
        assert ("Not shown, because a job failed: a model" in drawn) == bool(lacks)
        heights.append(float(re.search(r'height="([\d.]+)pt"', drawn)[1]))
    assert heights[1] > heights[0]


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
    drawn = {"figure": "loss_curves", "keywords": {"groups": {"softmax": ""}}, "sample": "", "lacks": []}
    run_script("plot.py", tmp_path, inputs={"history": paths}, outputs={"figure": figure}, params=drawn)
    style.save(
        loss_curves.draw(history=pl.concat(map(pl.read_parquet, paths)), groups={"softmax": ""}),
        [tmp_path / "expected.svg"],
    )
    assert figure.read_bytes() == (tmp_path / "expected.svg").read_bytes()
