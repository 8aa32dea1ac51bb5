"""Only what depends on a change runs again: for each edit of the finished tiny study, exactly these jobs."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from edits import Apply, added, config, text
from extensions import extended
from planned_jobs import job
from tiny_study import FIGURES, INTERVENTION_FIGURES, MECHANISM_FIGURES, TINY, Project

LIBRARY = "src/sinkorigin"

# ---- the jobs of the tiny study


def each(rules: list[str], pairs: list[tuple[str, str]]) -> set[str]:
    """Jobs of rules that run once for each model and prompt set."""
    return {job(rule, model=model, prompts=prompts) for rule in rules for model, prompts in pairs}


def plots(*figures: str) -> set[str]:
    return {job(f"plot_{figure}") for figure in figures}


FETCHED = [(model, prompts) for model in ("tiny", "tiny-random") for prompts in ("random_tokens", "natural_text")]
RUNS = ["softmax", "headwise_rmsnorm", "backcopy"]
STUDIED = [*FETCHED, *((f"{run}-seed0", "natural_text") for run in RUNS)]
EDITED = [("tiny", "random_tokens"), ("tiny", "natural_text")]  # with interventions

STATISTICS = [
    "compute_variance",
    "compute_norms",
    "compute_disparity",
    "compute_sinks",
    "compute_first_positions",
    "compute_variance_through_output",
    "compute_super_neurons",
    "compute_keys",
    "compute_secondary_sinks",
    "compute_effective_rank",
    "compute_value_drain",
    "compute_matrix_entropy",
    "compute_super_weight",
    "compute_row_sinks",
]
CLAIMS = {job("judge_claims"), job("plot_evidence")}


def anatomies(*models: str) -> set[str]:
    """The anatomy of these models, and its figure."""
    return {job("compute_anatomy", model=model) for model in models} | plots("anatomy")


EVERY_ANATOMY = anatomies(*(model for model, _ in STUDIED))
COMPARISON = {job("compare_pretraining")} | plots("training_dynamics", "pretraining_comparison")
EVERY_FIGURE = plots(
    *FIGURES, *INTERVENTION_FIGURES, *MECHANISM_FIGURES, "loss_curves", "training_dynamics", "pretraining_comparison"
)
EDITING = ["resolve_interventions", "intervene", "compute_intervention_effects"]
# tables of the model tell what some interventions take away, and where one of random tokens stands
FOLLOWED = each(["follow_edits", "compute_mediation"], EDITED[:1]) | plots(*MECHANISM_FIGURES)
INTERVENTIONS = each(EDITING, EDITED) | FOLLOWED | plots(*INTERVENTION_FIGURES) | anatomies("tiny")
OF_RANDOM_TOKENS = each(EDITING, EDITED[:1]) | FOLLOWED | plots(*INTERVENTION_FIGURES) | anatomies("tiny")
MEASURED_TRAININGS = {job("measure_training", run=run) for run in RUNS}


def drawn(data: str, start: str) -> set[str]:
    """The prompts of all models that are trained on the data."""
    return {job("draw_data_prompts", data=data, start=start, prompts="natural_text")}


def training(run: str, seed: int = 0, rule: str = "pretrain") -> set[str]:
    """A training, the study of its model as of any other, and all that shows every model or every training."""
    model = f"{run}-seed{seed}"
    return (
        {job(rule, run=run, seed=seed), job("measure_training", run=run), job("measure_weights", model=model)}
        | each(["extract_activations", *STATISTICS], [(model, "natural_text")])
        | {job("summarize_pretraining"), job("compare_pretraining_timing")} | COMPARISON | plots(*FIGURES, "loss_curves") | CLAIMS | anatomies(model)
    )  # fmt: skip


# ---- the edits


@dataclass
class Edit:
    what: str
    apply: Apply
    runs: set[str]


def reordered(study: Project) -> None:
    (study.folder / "tiny.yaml").write_text("# a comment\n" + yaml.safe_dump(TINY, sort_keys=True))


def touched(study: Project) -> None:
    for path in study.folder.rglob("*"):
        if path.is_file() and ".snakemake/" not in str(path):
            os.utime(path)


def one_more_variant(study: Project) -> None:
    shutil.copy(study.folder / LIBRARY / "variants/softpick.py", study.folder / LIBRARY / "variants/another.py")
    text(f"{LIBRARY}/variants/another.py", 'Variant(\n    "softpick"', 'Variant(\n    "another"')(study)
    text(f"{LIBRARY}/variants/registry.py", '    "softpick",\n', '    "softpick",\n    "another",\n')(study)


def both(first: Apply, second: Apply) -> Apply:
    def apply(study: Project) -> None:
        first(study)
        second(study)

    return apply


NOTHING_RUNS_AFTER = {
    "nothing": lambda study: None,
    "a comment in a library module": added(f"{LIBRARY}/tables.py", "\n# a comment\n"),
    "a comment in a script": added("workflow_scripts/extract_activations.py", "\n# a comment\n"),
    "a docstring": text(f"{LIBRARY}/statistics/sinks.py", '"""', '"""Said differently. '),
    "one more attention variant, which no run has": one_more_variant,
    "a module that no script imports": added(f"{LIBRARY}/statistics/unused.py", "UNUSED = 1\n"),
    "a config comment and the order of keys": reordered,
    "the memory of a rule": text("rules/activations.smk", "device=DEVICE,", "device=DEVICE, mem_mb=9000,"),
    "a message": text("rules/models.smk", "Fetching model", "Getting model"),
    "the pin of a development tool": text("requirements.lock", "ruff==", "ruff==99."),
    "the pin of a package that only downloads": text("requirements.lock", "requests==", "requests==99."),
}

EDITS = [
    Edit("every file touched, results too", touched, set()),
    Edit(
        "the formula of one attention variant",
        text(f"{LIBRARY}/variants/headwise_rmsnorm_llama.py", ".rsqrt()  #", ".rsqrt().neg()  #"),
        training("headwise_rmsnorm"),
    ),
    Edit("a GPU instead of the CPU", config(lambda c: c.update(device="cuda")), set()),
    Edit("the pin of matplotlib", text("requirements.lock", "matplotlib==", "matplotlib==99."), EVERY_FIGURE),
    Edit(
        "the pin of SciPy",
        text("requirements.lock", "scipy==", "scipy==99."),
        each([rule for rule in STATISTICS if rule != "compute_effective_rank"], STUDIED) | EVERY_ANATOMY
        | INTERVENTIONS | MEASURED_TRAININGS | COMPARISON | CLAIMS
        | EVERY_FIGURE - plots("effective_rank_by_layer", "loss_curves"),
    ),
    Edit(
        "a plot's colour",
        text(f"{LIBRARY}/figures/variance_by_position.py", 'color_palette("flare"', 'color_palette("crest"'),
        plots("variance_by_position"),
    ),
    Edit("the colours of all plots", text(f"{LIBRARY}/figures/style.py", '"#0173b2"', '"#0173b3"'), EVERY_FIGURE),
    Edit("one more figure format", config(lambda c: c.update(figures={"formats": ["svg", "png", "pdf"]})), EVERY_FIGURE),
    Edit(
        "the formula of the sink score",
        text(f"{LIBRARY}/statistics/sinks.py", "score.mean(axis=0), mean", "np.median(score, axis=0), mean"),
        each(["compute_sinks"], STUDIED) | plots("norm_and_sink_by_layer", "sinks_by_position") | OF_RANDOM_TOKENS | EVERY_ANATOMY
        | CLAIMS,
    ),
    Edit(
        "the formula of the effective rank, which the trainings' checkpoints have too",
        text(f"{LIBRARY}/statistics/effective_rank.py", "np.exp(-(shares", "np.exp2(-(shares"),
        each(["compute_effective_rank"], STUDIED) | plots("effective_rank_by_layer")
        | MEASURED_TRAININGS | COMPARISON | CLAIMS,
    ),
    Edit(
        "ε of the sink rate",
        config(lambda c: c["statistics"].update(epsilons=[0.1])),
        each(["compute_sinks", "compute_row_sinks"], STUDIED) | plots("norm_and_sink_by_layer", "sinks_by_position")
        | OF_RANDOM_TOKENS | EVERY_ANATOMY | MEASURED_TRAININGS | COMPARISON | CLAIMS,
    ),
    Edit(
        "a threshold of the sink onset",
        config(lambda c: c["statistics"].update(onset_mass=0.31)),
        each(["compute_sinks", "compute_value_drain"], STUDIED) | plots("norm_and_sink_by_layer", "sinks_by_position") | OF_RANDOM_TOKENS | EVERY_ANATOMY
        | CLAIMS,
    ),
    Edit(
        "the share that makes a super neuron",
        config(lambda c: c["statistics"].update(super_neuron_share=0.2)),
        each(["compute_super_neurons"], STUDIED) | plots("super_neurons", "channel_sparsity") | OF_RANDOM_TOKENS | EVERY_ANATOMY
        | CLAIMS,
    ),
    Edit(
        "one more strength",
        config(lambda c: c["interventions"][1].update(strengths=[2, 4, 8])),
        OF_RANDOM_TOKENS | CLAIMS,
    ),
    Edit(
        "one more control",
        config(lambda c: c["models"].append({"name": "other", "source": "random:tiny", "seed": 1})),
        {job(rule, model="other") for rule in ("fetch_model", "label_model", "measure_weights")}
        | each(
            ["tokenize_prompts", "extract_activations", *STATISTICS],
            [("other", "random_tokens"), ("other", "natural_text")],
        )
        | plots("evidence") | {job("compute_anatomy", model="other")} | CLAIMS,  # the other figures draw the first random weights only
    ),
    Edit(
        "a model's label",
        config(lambda c: c["models"][0].update(label="another")),
        {job("label_model", model="tiny")} | plots(*FIGURES, *INTERVENTION_FIGURES, *MECHANISM_FIGURES) | CLAIMS,
    ),
    Edit(
        "a model's licence",
        config(lambda c: c["models"][0].update(licence="another")),
        {job("label_model", model="tiny")},
    ),
    Edit(
        "one more prompt set",
        config(
            lambda c: c["prompts"].append(
                {"name": "shorter", "kind": "random_tokens", "sequences": 12, "length": 10, "seed": 0}
            )
        ),
        each(
            ["tokenize_prompts", "extract_activations", *STATISTICS], [("tiny", "shorter"), ("tiny-random", "shorter")]
        )
        | anatomies("tiny", "tiny-random") | CLAIMS,  # figures show each model's first prompt set of a kind
    ),
    Edit(
        "a site added",
        config(lambda c: c["activations"]["sites"].append({"site": "attention_input", "sequences": 2, "positions": [0]})),
        each(["extract_activations", *STATISTICS], STUDIED) | INTERVENTIONS | EVERY_ANATOMY | plots(*FIGURES) | CLAIMS,
    ),
    Edit("a new statistic", extended("A statistic"), each(["compute_norm_variation"], STUDIED)),
    Edit(
        "a new figure of it",
        extended("A statistic", "A figure"),
        each(["compute_norm_variation"], STUDIED) | plots("norm_variation_by_layer"),
    ),
    Edit(
        "a new kind of intervention, a new site and a new variant that nothing uses",
        extended("A kind of intervention", "A site", "An attention variant"),
        set(),
    ),
    Edit(
        "a new kind of intervention, used",
        both(
            extended("A kind of intervention"),
            config(lambda c: c["interventions"].append({**c["interventions"][2], "name": "mirrored", "kind": "mirrored_deviations"})),
        ),
        OF_RANDOM_TOKENS | CLAIMS,
    ),
    Edit(
        "a new site, used",
        both(
            extended("A site"),
            config(lambda c: c["activations"]["sites"].append({"site": "residual_mid", "sequences": 2, "positions": [0]})),
        ),
        each(["extract_activations", *STATISTICS], STUDIED) | INTERVENTIONS | EVERY_ANATOMY | plots(*FIGURES) | CLAIMS,
    ),
    Edit(
        "a new variant, used",
        both(
            extended("An attention variant"),
            config(lambda c: c["pretraining"]["runs"].append({**c["pretraining"]["runs"][1], "name": "relu", "variant": "relu"})),
        ),
        training("relu"),
    ),
    Edit(
        "one more seed",
        config(lambda c: c["pretraining"]["runs"][0].update(seeds=[0, 1])),
        training("softmax", seed=1, rule="pretrain_with_checkpoints"),
    ),
    Edit(
        "a learning rate",
        config(lambda c: c["pretraining"]["runs"][1].update(learning_rate=0.002)),
        training("headwise_rmsnorm"),
    ),
    Edit(
        "the seed of the synthetic data",
        config(lambda c: c["pretraining"]["data"][1].update(seed=1)),
        {job("make_bigram_backcopy", data="backcopy")} | drawn("backcopy", "first_token") | training("backcopy"),
    ),
    Edit(
        "a file of the corpus",
        added("text/play_0.txt", "\n\nAnd more.\n"),
        {job("fetch_corpus"), job("train_tokenizer", data="plays"), job("tokenize_corpus", data="plays")}
        | {job("make_bigram_backcopy", data="backcopy")}
        | drawn("plays", "no_first_token") | drawn("backcopy", "first_token")
        | training("softmax", rule="pretrain_with_checkpoints") | training("headwise_rmsnorm") | training("backcopy")
        | each(
            ["tokenize_prompts", "extract_activations", *STATISTICS],
            [("tiny", "natural_text"), ("tiny-random", "natural_text")],
        )
        | each(["measure_baseline", *EDITING], [("tiny", "natural_text")])
        | plots(*INTERVENTION_FIGURES, "position_or_token") | anatomies("tiny", "tiny-random"),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def one_copy(finished, tmp_path_factory):
    """A copy of the finished study for all edits, and what its files are before them."""
    study = finished.copy(tmp_path_factory.mktemp("edited") / "project")
    return study, sources(study)


@pytest.fixture
def edited(one_copy):
    """The finished study to edit; afterwards its files are again what they were."""
    study, before = one_copy
    yield study
    for path, content in sources(study).items():
        if path not in before:
            path.unlink()
        elif content != before[path]:
            path.write_bytes(before[path])


def sources(study: Project) -> dict[Path, bytes]:
    """Every file that a user edits, and its content."""
    kept = [path for path in study.folder.iterdir() if path.name not in ("results", ".snakemake", "dry_run.log")]
    files = [file for path in kept for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return {file: file.read_bytes() for file in files if "__pycache__" not in file.parts}


def test_nothing_runs_after_edits_that_no_result_depends_on(edited):
    """All at once: no edit can keep another's jobs from running."""
    for apply in NOTHING_RUNS_AFTER.values():
        apply(edited)
    assert edited.planned_jobs() == set(), f"after {', '.join(NOTHING_RUNS_AFTER)}"


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.what)
def test_these_jobs_run_after(edit, edited):
    edit.apply(edited)
    planned = edited.planned_jobs()
    runs = edit.runs | {job("make_page")} if edit.runs else set()  # the page is of all that a study has
    assert {"too many": planned - runs, "missing": runs - planned} == {"too many": set(), "missing": set()}


def test_the_pin_of_pytorch_reruns_everything_that_is_not_made_without_it(edited, fresh, tmp_path):
    before_its_first_run = fresh.copy(tmp_path / "fresh").planned_jobs()
    text("requirements.lock", "torch==", "torch==99.")(edited)
    without = {job("fetch_corpus"), job("train_tokenizer", data="plays"), job("tokenize_corpus", data="plays")}
    without |= {job("make_bigram_backcopy", data="backcopy")} | drawn("plays", "no_first_token")
    assert edited.planned_jobs() == before_its_first_run - without - drawn("backcopy", "first_token")


def test_a_threshold_that_moves_no_layer_makes_no_edit_again(study):
    config(lambda c: c["statistics"].update(onset_mass=0.31))(study)
    study.run("results/tiny/interventions/tiny/random_tokens/edited/interventions.json")
    resolved = (study.results / "logs/resolve_interventions/tiny/random_tokens.log").read_text()
    assert "mask_late: layers [2], from two thirds of the depth on, as many as until_onset: no sink onset" in resolved
    assert "made nothing of" in (study.results / "logs/intervene/tiny/random_tokens.log").read_text()


def test_one_more_strength_makes_that_strength_only(study):
    config(lambda c: c["interventions"][1].update(strengths=[2, 4, 8]))(study)
    made = study.results / "interventions/tiny/random_tokens/edited"
    before = (made / "variance_amplification/strength=4/scores.parquet").stat()
    study.run(f"results/tiny/{(made / 'interventions.json').relative_to(study.results)}")
    log = (study.results / "logs/intervene/tiny/random_tokens.log").read_text()
    assert "made variance_amplification/strength=8 of" in log
    after = (made / "variance_amplification/strength=4/scores.parquet").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (made / "variance_amplification/strength=8/scores.parquet").is_file()
