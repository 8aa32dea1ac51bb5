"""What a run tells while it goes on: how many jobs are done, and the time that the others take, by their estimates and what others took."""

import re
import time

import pytest

from harness.progress import Progress, Step, duration


def progress(**steps: Step) -> Progress:
    planned = Progress()
    planned.plan(steps)
    return planned


def finished(planned: Progress, took: dict[str, float]) -> Progress:
    """A run in which each of these jobs began at 0 and took so long."""
    for key, seconds in took.items():
        planned.start([key], 0.0)
        planned.finish(key, seconds)
    return planned


def test_a_line_names_the_job_the_count_its_time_and_the_time_left():
    wildcards = {"model": "smollm2", "prompts": "random_tokens"}
    planned = progress(
        extract=Step("extract_activations", wildcards, seconds=60.0),
        **{f"later{i}": Step("compute_sinks", seconds=30.0, shares={"_cores": 0.5}) for i in range(60)},
    )
    now = time.mktime((2026, 1, 2, 14, 2, 11, 0, 0, -1))
    planned.start(["extract"], now - 41)
    planned.finish("extract", now)
    # 60 jobs of 30 s each take half of the cores for 15 min, and their kind was overestimated by 60/41
    expected = "[ 1/61] 14:02:11  extract_activations model=smollm2 prompts=random_tokens (41 s) – about 10 min left"
    assert planned.line("extract", now) == expected
    assert planned.state(now) == "1 of 61 jobs, about 10 min left"


def test_the_last_line_has_no_time_left():
    planned = finished(progress(only=Step("plan", seconds=2.0)), {"only": 3.0})
    assert re.fullmatch(r"\[1/1\] [\d:]{8}  plan \(3 s\)", planned.line("only", 3.0))


def test_a_run_takes_as_long_as_its_longest_chain_or_what_shares_a_resource():
    chain = {
        "a": Step("a", seconds=10.0),
        "b": Step("b", seconds=20.0, after=frozenset("a")),
        "c": Step("c", seconds=5.0, after=frozenset("ab")),
    }
    assert progress(**chain).left(0.0) == 35.0
    half = {key: Step(key, seconds=20.0, shares={"_cores": 0.5, "gpu": 1.0}) for key in "xyz"}
    assert progress(**half).left(0.0) == 60.0  # one GPU, one after the other
    assert (
        progress(**chain, **{key: Step(key, seconds=20.0, shares={"_cores": 0.5}) for key in "xyz"}).left(0.0) == 35.0
    )


def test_estimates_are_scaled_by_what_jobs_of_their_rule_took_or_else_by_all():
    steps = {"f1": Step("fast", seconds=10.0), "s1": Step("slow", seconds=10.0), "f2": Step("fast", seconds=10.0)}
    assert finished(progress(**steps), {"f1": 1.0, "s1": 40.0}).left(40.0) == pytest.approx(1.0)
    other = {**steps, "f2": Step("never seen", seconds=10.0)}
    assert finished(progress(**other), {"f1": 1.0, "s1": 40.0}).left(40.0) == pytest.approx(10.0 * 41 / 20)


def test_time_that_a_job_has_run_already_is_not_left():
    planned = progress(a=Step("a", seconds=10.0))
    planned.start(["a"], 100.0)
    assert planned.left(104.0) == 6.0 and planned.left(120.0) == 0.0


def test_what_needs_a_failed_job_takes_no_time():
    planned = progress(
        fetch=Step("fetch", seconds=5.0),
        extract=Step("extract", seconds=100.0, after=frozenset({"fetch"})),
        draw=Step("draw", seconds=100.0, after=frozenset({"extract"})),
        other=Step("other", seconds=7.0),
    )
    planned.give_up(["fetch"])
    assert planned.left(0.0) == 7.0


def test_jobs_without_an_estimate_count_like_the_others_and_those_that_began_unseen_have_no_time():
    planned = progress(
        known=Step("known", seconds=10.0), foreign=Step("foreign", after=frozenset({"known"})), grouped=Step("g", seconds=10.0)
    )  # fmt: skip
    planned.finish("grouped", 50.0)
    assert re.fullmatch(r"\[1/3\] [\d:]{8}  g – about 20 s left", planned.line("grouped", 50.0))


def test_jobs_that_turn_up_later_are_counted():
    planned = finished(progress(a=Step("a", seconds=1.0)), {"a": 1.0})
    assert not planned.knows(["b"])
    planned.plan({"a": Step("a", seconds=1.0), "b": Step("b", seconds=2.0)})
    assert planned.knows(["b"]) and planned.state(1.0) == "1 of 2 jobs, about 2 s left"


def test_a_time_is_told_in_the_unit_that_suits_it():
    assert [duration(seconds) for seconds in (0.4, 41, 59.9, 1020, 5400)] == ["0 s", "41 s", "60 s", "17 min", "1.5 h"]
