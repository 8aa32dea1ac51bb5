"""Two checkouts with one cache between workflows: what is dear is made once, and nobody gets another's files."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from edits import added, config, text
from planned_jobs import cache_keys, planned_jobs
from sinkorigin.tables import checked_directory
from tiny_study import Project, digests

# a fetched model's activations, and a trained model
TARGETS = [
    "results/tiny/activations/tiny/random_tokens/magnitudes.parquet",
    "results/tiny/pretraining/backcopy/seed=0/history.parquet",
]
JOBS = ["fetch_model", "fetch_corpus", "tokenize_prompts", "extract_activations", "make_bigram_backcopy", "pretrain"]
DIRECTORIES = [
    "results/models/tiny",
    "results/tiny/activations/tiny/random_tokens/value_aggregation",
    "results/tiny/pretraining/data/backcopy/tokens",
    "results/tiny/pretraining/backcopy/seed=0/model",
]


def run(study: Project, cache, *targets, check: bool = True) -> str:
    """What a run with the cache says."""
    done = study.run(*targets, "--cache", check=check, SNAKEMAKE_OUTPUT_CACHE=str(cache))
    assert check or done.returncode
    return done.stdout + done.stderr


def made_here(study: Project) -> set[str]:
    """Rules whose script ran in this checkout: it writes into their log, which Snakemake leaves empty otherwise."""
    logs = [study.folder / "results" / "logs", study.results / "logs"]
    return {
        path.relative_to(folder).parts[0].removesuffix(".log")
        for folder in logs
        for path in folder.rglob("*.log")
        if path.stat().st_size
    }


def links(study: Project) -> list:
    return [path for path in (study.folder / "results").rglob("*") if path.is_symlink()]


@pytest.fixture(scope="module")
def shared(fresh, tmp_path_factory):
    """An empty cache, and two checkouts that run the same jobs with it at the same time."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "cache").mkdir()
    studies = [fresh.copy(folder / name) for name in ("one", "two")]
    with ThreadPoolExecutor() as both:
        list(both.map(lambda study: run(study, folder / "cache", *TARGETS), studies))
    return folder / "cache", studies


def test_two_runs_at_once_do_not_disturb_one_another(shared):
    cache, studies = shared
    for study in studies:
        assert (study.results / "pretraining/backcopy/seed=0/history.parquet").is_file()
        for directory in DIRECTORIES:
            checked_directory(study.folder / directory)
    # one whole entry a job and nothing else, whichever run was first
    assert len(list(cache.iterdir())) == len(JOBS)
    one, two = (digests(study.results) for study in studies)
    assert one == two


def test_what_is_in_the_cache_cannot_be_changed_by_its_readers(shared):
    cache, studies = shared
    entries = [path for path in cache.rglob("*") if not path.is_dir()]
    assert entries and all(path.stat().st_mode & 0o777 == 0o444 for path in entries)
    assert all(path.stat().st_mode & 0o022 == 0 for path in cache.rglob("*") if path.is_dir())
    # a checkout has directories of its own, so that nothing is ever written into the cache
    assert all(not path.is_dir() for path in links(studies[0]))


def test_another_checkout_computes_none_of_it_and_goes_on_from_there(shared, finished, fresh, tmp_path):
    cache, _ = shared
    third = fresh.copy(tmp_path / "elsewhere")
    run(third, cache, *TARGETS, "results/tiny/statistics/tiny/random_tokens/variance.parquet")
    assert made_here(third) == {"compute_variance"}
    assert planned_jobs(third.folder, [*third.arguments, *TARGETS]) == set()
    assert {path.resolve().is_relative_to(cache) for path in links(third)} == {True}
    own = digests(third.results)
    before = digests(finished.results)
    assert own and {name for name in own if before[name] != own[name] and "timing" not in name} == set()


def test_changed_code_makes_results_of_its_own_and_leaves_the_others(shared, tmp_path):
    cache, (one, _) = shared
    study = one.copy(tmp_path / "changed")
    before = digests(cache)
    capture = "src/sinkorigin/activations/capture.py"
    added(capture, "\n_CHANGED = 1\n")(study)
    run(study, cache, TARGETS[0])
    after = digests(cache)
    assert {name: after[name] for name in before} == before
    made = {name.partition("/")[0] for name in after.keys() - before.keys()}
    scores = study.results / "attention/tiny/random_tokens/scores.parquet"
    assert len(made) == 1 and scores.resolve().is_relative_to(cache / made.pop())


# ---- keys


@pytest.fixture
def keys(fresh, tmp_path):
    """A function: the keys of a fresh checkout after an edit."""
    (tmp_path / "cache").mkdir()

    def after(edit=lambda study: None, name="project"):
        study = fresh.copy(tmp_path / name)
        edit(study)
        return cache_keys(study.folder, study.arguments, tmp_path / "cache")

    return after


def rules(jobs) -> set[str]:
    return {name.partition("(")[0] for name in jobs}


def test_keys_do_not_depend_on_the_checkout_and_no_two_jobs_share_one(keys):
    here, elsewhere = keys(name="here"), keys(name="somewhere else")
    assert here == elsewhere
    assert len(here) == 22 and len(set(here.values())) == len(here)


def test_another_name_library_package_or_file_gives_other_keys(keys):
    before = keys(name="before")

    def changed(edit, name):
        after = keys(edit, name)
        return {job for job in before if after.get(job) != before[job]}

    twin = config(lambda c: c["models"].insert(1, {"name": "twin", "source": "path:tiny_model", "control": False}))
    with_twin = keys(twin, "twin")
    assert with_twin["fetch_model(model=twin)"] not in before.values()
    assert with_twin.keys() > before.keys() and len(set(with_twin.values())) == len(with_twin)

    code = changed(added("src/sinkorigin/activations/capture.py", "\n_CHANGED = 1\n"), "code")
    assert rules(code) == {"extract_activations"} and len(code) == 7
    model = changed(added("tiny_model/generation_config.json", "\n"), "model")
    assert rules(model) == {"fetch_model", "tokenize_prompts", "extract_activations"}
    assert all("model=tiny" in job for job in model) and len(model) == 2 + 4 + 4
    assert changed(added("results.txt", "of no one"), "unused") == set()


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("", "sinkorigin: --cache: SNAKEMAKE_OUTPUT_CACHE is not set; set it to the directory of the cache"),
        ("/nowhere", "sinkorigin: SNAKEMAKE_OUTPUT_CACHE: there is no directory /nowhere; make it"),
    ],
)
def test_a_cache_that_is_not_there_is_told_before_any_job(fresh, tmp_path, place, sentence):
    says(fresh.copy(tmp_path / "project"), place, sentence)


def test_results_of_other_versions_are_not_shared(fresh, tmp_path):
    study = fresh.copy(tmp_path / "project")
    text("requirements.lock", "torch==", "torch==99.")(study)
    says(study, tmp_path, "is installed, but requirements.lock has 99.")


def says(study, cache, sentence):
    said = run(study, cache, "--dry-run", check=False)
    assert sentence in said and "Traceback" not in said, said
