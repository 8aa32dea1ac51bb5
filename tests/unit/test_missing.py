"""After a failed run: what is missing, why, and what can be made without it."""

import copy
from types import SimpleNamespace

import pytest

from harness import snakemake_internals as internals
from harness.after_failure import end_failed_run, what_is_left
from harness.config.reading import read_config
from harness.figures import FIGURES
from harness.missing import VARIABLE, Failure, Missing, reason
from harness.study import Study
from tiny_study import TINY

FAILURES = [
    Failure("fetch_model", {"model": "broken"}, "model broken: it is damaged; take an intact copy", "fetch.log"),
    Failure("measure_weights", {"model": "other"}, "rule measure_weights (model other) ended without a word", "weights.log"),
]  # fmt: skip
STATISTICS = "results/mine/statistics"
FILES = {
    "results/models/broken/manifest.json": 0,
    "results/mine/attention/broken/random_tokens/scores.parquet": 0,
    f"{STATISTICS}/broken/random_tokens/sinks.parquet": 0,
    f"{STATISTICS}/broken/anatomy.parquet": 0,
    f"{STATISTICS}/other/anatomy.parquet": 1,
    f"{STATISTICS}/other/random_tokens/super_neurons.parquet": 1,
    f"{STATISTICS}/other/random_tokens/super_neuron_surge.parquet": 1,
    f"{STATISTICS}/training/softmax": 1,
    f"{STATISTICS}/training/softmax/manifest.json": 1,
    "results/mine/pretraining/softmax/seed=3/history.parquet": 1,
    f"{STATISTICS}/pretraining_comparison.parquet": 1,
    "results/mine/figures/necessity.svg": 0,
    "results/mine/figures/necessity.png": 0,
    "results/mine/figures/sinks.svg": 0,
    "results/mine/index.html": 0,
}
MISSING = Missing(FAILURES, FILES, ["results/mine/figures/sinks.svg", "results/mine/index.html"])


def test_what_is_missing_is_told_by_model_prompt_set_and_training_with_its_reason():
    parts = MISSING.parts("results/mine")
    assert [(part["model"], part["prompts"], part["what"], part["log"]) for part in parts] == [
        ("broken", "random_tokens", None, "fetch.log"),
        ("other", None, "anatomy", "weights.log"),
        ("other", "random_tokens", "super_neurons, super_neuron_surge", "weights.log"),
        (
            None, None, "the statistics over the trainings of softmax, the training of softmax with seed 3, the comparison of "
            "trainings", "weights.log",
        ),
    ]  # fmt: skip
    assert parts[0]["sentence"] == FAILURES[0].sentence
    undrawn = {"figure": "necessity", "sentence": FAILURES[0].sentence, "log": "fetch.log"}
    figures = [file for file in FILES if "/figures/" in file]
    assert MISSING.undrawn(figures) == [undrawn]
    others = [file for file in figures if "necessity" not in file]
    assert MISSING.undrawn(others) == [], "a figure that is no part of the study"


def test_an_ordinary_run_misses_nothing_and_the_one_after_a_failure_what_it_is_given(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Missing.read() == Missing()
    MISSING.write(tmp_path / "missing.json")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "missing.json"))
    assert Missing.read() == MISSING


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("code in src\nsinkorigin: a sentence; do this\n", "a sentence; do this"),
        ("run:   0%|          | 0/20 [00:00<?, ?step/s]sinkorigin: it diverged; lower it\n", "it diverged; lower it"),
        ("sinkorigin: no space left\nTraceback (most recent call last):\nOSError: 28\n", "no space left"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'a'\n", "an unexpected KeyError: 'a'"),
        ("code in src\ninputs verified in 0.1 s\n", None),
        ("3.0 s; at most 100 MB of memory and 0 MB of a GPU\n", None),
        (None, None),
    ],
    ids=["sentence", "behind a bar", "disk", "defect", "killed", "killed before it began", "no log"],
)
def test_the_reason_of_a_failure_is_what_its_log_says(tmp_path, log, expected):
    if log is not None:
        (tmp_path / "job.log").write_text(log)
    assert reason(tmp_path / "job.log") == expected


class Job:
    def __init__(self, rule, *wildcards, output=(), log=()):
        stated = SimpleNamespace(output=SimpleNamespace(paths=output, kwpaths={}))
        self.rule, self.log = SimpleNamespace(name=rule, ruleinfo=stated), log
        self.wildcards = wildcards or {}

    def __repr__(self):
        return self.rule.name

    def is_group(self):
        return False


class Group(list):
    """Jobs that are submitted as one."""

    __hash__ = object.__hash__

    def is_group(self):
        return True


def workflow(failed=(), depending=(), **scheduler):
    """What a workflow has of a run that failed; ``depending``: job → jobs that wait for it."""
    edges = {job: dict.fromkeys(others) for job, others in dict(depending).items()}

    def bfs(direction, job):
        yield job
        for other in direction.get(job, ()):
            yield from bfs(direction, other)

    state = {"failed": set(failed), "running": set(), "touch": False, "_user_kill": None, "_executor_error": None}
    groups = {job: group for group in scheduler.pop("groups", ()) for job in group}
    ready = set(scheduler.pop("ready", ()))
    return SimpleNamespace(
        dag=SimpleNamespace(bfs=bfs, depending=edges, ready_jobs=ready, get_job_group=groups.get),
        scheduler=SimpleNamespace(**state | scheduler),
    )


def test_every_job_that_waits_for_a_failed_one_is_unfinished_because_of_it():
    fetch, extract, figure, corpus = Job("fetch", "broken"), Job("extract"), Job("plot"), Job("corpus")
    run = workflow({fetch, corpus}, {fetch: [extract], extract: [figure], corpus: [figure]})
    unfinished = internals.unfinished_jobs(run, lambda job: False)
    assert unfinished == {corpus: corpus, fetch: fetch, extract: fetch, figure: corpus}


def test_of_a_group_that_failed_the_jobs_that_ended_well_wait_for_the_one_that_did_not():
    norms, sinks, keys, anatomy = Job("norms"), Job("sinks"), Job("keys"), Job("anatomy")
    run = workflow({Group([norms, sinks, keys])}, {keys: [anatomy], norms: [anatomy]})
    unfinished = internals.unfinished_jobs(run, lambda job: job is not sinks)
    assert unfinished == {norms: sinks, sinks: sinks, keys: sinks, anatomy: sinks}
    effects, mediation, figure, intervene = Job("effects"), Job("mediation"), Job("plot"), Job("intervene")
    waiting = workflow({intervene}, {intervene: [effects], mediation: [figure]}, groups=[Group([effects, mediation])])
    unfinished = internals.unfinished_jobs(waiting, lambda job: False)
    assert unfinished == dict.fromkeys([intervene, effects, mediation, figure], intervene)
    killed = internals.unfinished_jobs(run, lambda job: True)
    assert {killed[job] for job in (norms, sinks, keys)} == {norms, sinks, keys}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, True),
        ({"_user_kill": "graceful"}, False),
        ({"running": {"a job"}}, False),
        ({"ready": {"a job"}}, False),
        ({"_executor_error": OSError()}, False),
        ({"touch": True}, False),
    ],
    ids=["by itself", "SIGTERM", "Ctrl-C", "no --keep-going", "executor", "--touch"],
)
def test_a_run_that_was_stopped_is_told_from_one_that_ended_by_itself(state, expected):
    assert internals.ended_by_itself(workflow(**state)) == expected


def test_claims_and_the_figures_that_have_something_to_show_are_left():
    study = Study(read_config(copy.deepcopy(TINY)), "cpu")
    figures = {f"plot_{figure.name}": figure.outputs(study) for figure in FIGURES if figure.when(study)}
    wanted = figures | {
        "judge_claims": ["results/tiny/claims.parquet"],
        "make_page": ["results/tiny/index.html"],
        "compare_pretraining": ["a table"],
    }
    failed = [Failure("fetch_model", {"model": "tiny"}, "a sentence", "a log")]

    def left(*lost: str) -> set[str]:
        """What is left without the tables that end so."""
        files = [file for figure in FIGURES for files in figure.inputs(study).values() for file in map(str, files)]
        return set(what_is_left(study, Missing(failed, {file: 0 for file in files if file.endswith(lost)}), wanted))

    assert left() == figures.keys() | {"judge_claims", "make_page"}
    assert left("pretraining_comparison.parquet") == left() - {"plot_pretraining_comparison"}
    assert left("super_neurons.parquet") == left() - {"plot_super_neurons", "plot_channel_sparsity"}
    assert left("") == set()
    assert "plot_norms" not in what_is_left(
        study, Missing(failed, {}), {"plot_norms": ["results/tiny/figures/norms.svg"]}
    )


def test_a_run_that_was_stopped_tells_its_failed_jobs_and_that_the_old_page_is_gone(tmp_path):
    """Ctrl-C stops a run, and so does a failure without --keep-going; nothing is made of what it left."""
    study = Study(read_config(copy.deepcopy(TINY)), "cpu")
    page, log = tmp_path / "index.html", tmp_path / "fetch.log"
    log.write_text("sinkorigin: model tiny: it is damaged; take an intact copy\n")
    fetch, judge = Job("fetch_model", log=[log]), Job("judge_claims", output=["claims.parquet"])
    stopped = workflow({fetch}, {fetch: [judge]}, running={"a job"})
    told = end_failed_run(stopped, study, changed=False, removed=[str(page)])
    assert told.splitlines() == [
        "1 job failed, and 1 that needs its results did not run:",
        f"- rule fetch_model: model tiny: it is damaged; take an intact copy (log: {log})",
        f"Removed, because it was of an earlier run: {page}. The same command makes it again.",
    ]
    nothing_failed = workflow(running={"a job"})
    assert end_failed_run(nothing_failed, study, changed=False, removed=[str(page)]).startswith("Removed, because")
    page.touch()  # made before the run was stopped
    assert end_failed_run(nothing_failed, study, changed=False, removed=[str(page)]) is None
