"""Only what depends on a change runs again: edits of the tiny study, asked of the real DAG after a real run."""

import copy
import os

import yaml

from tiny_study import FIGURES, INTERVENTION_FIGURES, TINY


def edit(path, old, new):
    text = path.read_text()
    assert old in text, (path, old)
    path.write_text(text.replace(old, new, 1))


def rules(pending):
    return set(pending.values())


def outputs(pending, rule):
    return sorted(path.removeprefix("results/tiny/") for path, own in pending.items() if own == rule)


AFTER_TRAINING_STATISTICS = {
    "measure_training",
    "compare_pretraining",
    "plot_training_dynamics",
    "plot_pretraining_comparison",
    "judge_claims",
}
AFTER_SINKS = {"compute_sinks", "plot_norm_and_sink_by_layer", "plot_sinks_by_position", "judge_claims"}


def test_nothing_changed_runs_nothing(finished):
    assert finished.pending() == {}


def test_touched_files_run_nothing(study):
    for path in [
        *study.folder.glob("workflow_scripts/**/*.py"),
        *study.folder.glob("rules/*"),
        study.folder / "Snakefile",
    ]:
        os.utime(path)
    for path in (study.folder / "results").rglob("*"):
        if path.is_file():
            os.utime(path)
    for path in [*study.folder.glob("text/*"), *study.folder.glob("tiny_model/*"), study.folder / "config.yaml"]:
        os.utime(path)
    assert study.pending() == {}


def test_a_comment_or_docstring_in_the_library_runs_nothing(study):
    tables = study.folder / "workflow_scripts/sinkorigin/tables.py"
    tables.write_text('"""Said differently."""\n# a comment\n' + tables.read_text().split('"""', 2)[2])
    assert study.pending() == {}


def test_a_comment_and_the_order_of_keys_in_the_config_run_nothing(study):
    (study.folder / "tiny.yaml").write_text("# a comment\n" + yaml.safe_dump(TINY, sort_keys=True))
    assert study.pending() == {}


def test_editing_a_figure_reruns_that_figure_only(study):
    path = study.folder / "workflow_scripts/sinkorigin/figures/variance_by_position.py"
    path.write_text(path.read_text() + "\n\n_COLOUR = 'black'\n")
    assert rules(study.pending()) == {"plot_variance_by_position"}


def test_one_more_strength_runs_that_strength_and_what_follows(study):
    config = copy.deepcopy(TINY)
    config["interventions"][1]["strengths"] = [2, 4, 8]
    study.write_config(config)
    pending = study.pending()
    everything = "interventions/tiny/random_tokens/interventions.json"
    folder = "interventions/tiny/random_tokens/variance_amplification"
    assert outputs(pending, "intervene") == [everything]
    assert rules(pending) == {
        "intervene", "compute_intervention_effects", "judge_claims", *(f"plot_{name}" for name in INTERVENTION_FIGURES)
    }  # fmt: skip
    before = (study.results / folder / "strength=4" / "scores.parquet").stat()
    study.run(f"results/tiny/{everything}")
    log = (study.results / "logs/intervene/tiny/random_tokens.log").read_text()
    assert "made variance_amplification/strength=8 of" in log
    after = (study.results / folder / "strength=4" / "scores.parquet").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (study.results / folder / "strength=8" / "scores.parquet").is_file()


def test_one_more_seed_runs_its_training_and_what_follows(study):
    config = copy.deepcopy(TINY)
    config["pretraining"]["runs"][0]["seeds"] = [0, 1]
    study.write_config(config)
    pending = study.pending()
    trained = {path for path, rule in pending.items() if rule == "pretrain_with_checkpoints"}
    assert trained and all("/softmax/seed=1/" in path for path in trained)
    of_models = {path for path, rule in pending.items() if rule.startswith(("tokenize", "extract", "compute"))}
    assert of_models and all("/softmax-seed1/" in path for path in of_models)
    assert not rules(pending) & {"fetch_model", "fetch_corpus", "train_tokenizer", "tokenize_corpus", "intervene"}
    assert "pretrain" not in rules(pending)


def test_editing_a_statistic_reruns_it_its_figures_and_the_claims(study):
    path = study.folder / "workflow_scripts/sinkorigin/statistics/sinks.py"
    path.write_text(path.read_text() + "\n\n_CHANGED = 1\n")
    assert rules(study.pending()) == AFTER_SINKS


def test_editing_the_effective_rank_reruns_it_its_figure_and_the_claims(study):
    path = study.folder / "workflow_scripts/sinkorigin/statistics/rank.py"
    path.write_text(path.read_text() + "\n\n_CHANGED = 1\n")
    own = {"compute_effective_rank", "plot_effective_rank_by_layer"}
    assert rules(study.pending()) == own | AFTER_TRAINING_STATISTICS


def test_another_rule_for_super_neurons_reruns_them_and_what_follows(study):
    config = copy.deepcopy(TINY)
    config["statistics"]["super_neuron_share"] = 0.2
    study.write_config(config)
    assert rules(study.pending()) == {
        "compute_super_neurons",
        "plot_super_neurons",
        "plot_channel_sparsity",
        "judge_claims",
    }


def test_one_more_epsilon_reruns_the_sinks_and_what_follows(study):
    config = copy.deepcopy(TINY)
    config["statistics"]["epsilons"] = [0.1]
    study.write_config(config)
    assert rules(study.pending()) == AFTER_SINKS | AFTER_TRAINING_STATISTICS


def test_another_figure_format_draws_figures_only(study):
    config = copy.deepcopy(TINY)
    config["figures"] = {"formats": ["svg"]}
    study.write_config(config)
    assert {rule for rule in rules(study.pending()) if not rule.startswith("plot_")} == set()


def test_one_more_model_runs_its_chain_only(study):
    config = copy.deepcopy(TINY)
    config["models"].append({"name": "other", "source": "random:tiny", "seed": 1})
    study.write_config(config)
    pending = study.pending()
    whole = {"judge_claims"} | {f"plot_{name}" for name in FIGURES}
    assert "results/models/other/manifest.json" in pending
    assert {path for path, rule in pending.items() if "/other/" not in path and rule not in whole} == set()


def test_a_changed_learning_rate_trains_that_run_only(study):
    config = copy.deepcopy(TINY)
    config["pretraining"]["runs"][1]["learning_rate"] = 0.002
    study.write_config(config)
    pending = study.pending()
    assert all("/headwise_rmsnorm/" in path for path, rule in pending.items() if rule == "pretrain")
    of_models = {path for path, rule in pending.items() if rule.startswith(("tokenize", "extract", "compute"))}
    assert of_models and all("/headwise_rmsnorm-seed0/" in path for path in of_models)
    assert "pretrain" in rules(pending)


def test_another_seed_of_the_synthetic_stream_trains_its_runs_only(study):
    config = copy.deepcopy(TINY)
    config["pretraining"]["data"][1]["seed"] = 1
    study.write_config(config)
    pending = study.pending()
    folder = "pretraining/data/backcopy"
    assert outputs(pending, "make_bigram_backcopy") == [
        f"{folder}/tokenizer/manifest.json",
        f"{folder}/tokens/manifest.json",
    ]
    own = {path for path, rule in pending.items() if rule.startswith(("pretrain", "take", "extract", "compute"))}
    assert own and all("/backcopy" in path for path in own)
    assert not rules(pending) & {"fetch_model", "fetch_corpus", "train_tokenizer", "tokenize_corpus", "intervene"}
