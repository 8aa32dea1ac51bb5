"""The mutation score is that of a stratified sample, and its page tells it with every survivor."""

import importlib
import importlib.util
import json
from collections import Counter

import pytest
import yaml

from sinkorigin.statistics.binomial import exact_interval
from tiny_study import ROOT

spec = importlib.util.spec_from_file_location("mutation", ROOT / "benchmarks" / "mutation.py")
mutation = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mutation)
page_of = importlib.import_module("update_mutation")

MUTANTS = {
    module: [f"{module}.x_f__mutmut_{number}" for number in range(count)]
    for module, count in (("a", 60), ("b", 30), ("c", 10))
}


def test_a_sample_has_of_each_module_its_share_and_begins_with_the_smaller_samples():
    for seed in range(5):
        sample = mutation.drawn(MUTANTS, 50, seed)
        counts = Counter(name.partition(".")[0] for name in sample)
        assert len(set(sample)) == 50 and all(
            abs(counts[module] - share) <= 1 for module, share in (("a", 30), ("b", 15), ("c", 5))
        )
        assert mutation.drawn(MUTANTS, 20, seed) == sample[:20]
    assert mutation.drawn(MUTANTS, 50, 0) != mutation.drawn(MUTANTS, 50, 1)
    assert sorted(mutation.drawn(MUTANTS, None, 0)) == sorted(name for names in MUTANTS.values() for name in names)


def test_every_mutant_is_drawn_about_equally_often():
    counts = Counter(name for seed in range(400) for name in mutation.drawn(MUTANTS, 10, seed))
    by_module = {module: sum(counts[name] for name in names) / len(names) for module, names in MUTANTS.items()}
    assert len(counts) == 100 and all(36 <= mean <= 44 for mean in by_module.values())


def test_the_tests_of_a_mutant_are_those_that_call_its_function_the_fastest_first():
    def note(seconds, *functions):
        return {"seconds": seconds, "functions": functions, "shared": False, "setup": 0.0}

    tests = {
        "slow": note(2.5, "p.q.m.x_f"),
        "fast": note(0.1, "p.q.m.x_f", "p.q.m.x_g"),
        "middle": note(1.0, "p.q.m.x_f"),
        "other": note(0.1, "p.q.n.x_f"),
    }
    assert mutation.chosen(tests, "p.q.m.x_f__mutmut_3") == [
        "fast",
        "middle",
    ]  # all three take longer than there is time
    assert mutation.chosen(tests, "p.q.m.x_h__mutmut_3") == []
    assert mutation.chosen(tests, "p.q.m.x_h__mutmut_3", on_import=True) == ["fast", "middle"]
    assert mutation.chosen(tests, "p.q.k.x_h__mutmut_3", on_import=True) == ["fast", "other", "middle"]
    assert mutation.chosen({"one": note(9.0, "p.q.m.x_f")}, "p.q.m.x_f__mutmut_1") == ["one"]


def test_a_fork_ends_with_a_status_or_without_time():
    assert mutation.in_fork(lambda: 0, 5) == 0 and mutation.in_fork(lambda: 3, 5) == 3
    assert mutation.in_fork(lambda: list(iter(int, 1)), 1) is None  # for ever

    def fails():
        raise ValueError

    with pytest.raises(SystemExit, match="a fork failed beside its tests"):
        mutation.in_fork(fails, 5)


def test_files_of_tests_exist():
    files = mutation.test_files()
    assert all((ROOT / "tests" / "unit" / f"test_{name}.py").is_file() for name in mutation.TESTS if "*" not in name)
    assert len(files) == len(set(files)) > 20 and all(
        (ROOT / name.partition("::")[0]).is_file() for name in (*files, *mutation.DECLARED)
    )


RESULT = {
    "mutmut": "3.8.1", "seed": 7,
    "modules": {
        "sinkorigin.statistics.a": {"mutants": 60, "killed": 5, "out of time": 1, "survived": 2}, "sinkorigin.claims.b": {"mutants": 20, "killed": 2},
    },
    "survivors": [
        {"module": "sinkorigin.statistics.a", "function": "f", "change": "- a | b\n+ a & b", "verdict": "survived"},
        {"module": "sinkorigin.statistics.a", "function": "g", "change": "- x\n+ y", "verdict": "no test calls it"},
    ],
}  # fmt: skip


def test_the_page_tells_score_interval_and_survivors():
    assert page_of.score(RESULT) == (0.8, *exact_interval(8, 10))
    text = page_of.page(RESULT, {"sinkorigin.statistics.a": {"- a | b\n+ a & b": "of single bits"}})
    assert (
        "**80.0 %** (95 % interval 44.4 … 97.5 %): of 80 mutants a random 10 (seed 7) were tried, with mutmut 3.8.1."
        in text
    )
    assert "The tests killed 8, 1 of them by taking too long; 2 survived. Of these 1 are equivalent" in text
    assert "| `statistics.a` | 60 | 8 | 6 |\n| `claims.b` | 20 | 2 | 2 |" in text
    assert "| `statistics.a`<br>`f` | `` - a \\| b ``<br>`` + a & b `` | equivalent: of single bits |" in text
    assert text.endswith("| `statistics.a`<br>`g` | `` - x ``<br>`` + y `` | no test calls it |\n")
    whole = {**RESULT, "seed": None, "modules": {"a": {"mutants": 10, "killed": 9, "survived": 1}}}
    assert page_of.score(whole) == (0.9, 0.9, 0.9) and "**90.0 %**: of 10 mutants all were tried" in page_of.page(
        whole, {}
    )


def test_the_page_is_that_of_the_last_measurement():
    result, reasons = json.loads(page_of.RESULT.read_text()), yaml.safe_load(page_of.REASONS.read_text())
    assert (ROOT / "docs" / "mutation.md").read_text() == page_of.page(result, reasons), (
        "run make mutation, or docs/update_mutation.py"
    )
