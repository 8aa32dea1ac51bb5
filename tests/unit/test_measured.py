"""What benchmarks write with --json: numbers of things that took turns."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from measured import Measured, alternating, compared, cost_of, write_json


def test_a_ratio_is_the_median_of_those_of_neighbours_in_time():
    one = compared("a beside b", [1.0, 8.0, 3.0], [2.0, 2.0, 1.0])
    assert (one.numerator, one.denominator, one.rounds) == (3.0, 2.0, 3)
    assert one.ratio == 3.0  # of 0.5, 4 and 3, and not 3 / 2


def test_tasks_take_turns_after_a_round_that_is_not_counted_each_in_an_empty_folder():
    ran = []

    def task(name):
        def run(folder):
            assert not list(folder.iterdir())
            (folder / "left").touch()
            ran.append(name)

        return run

    seconds = alternating({"a": task("a"), "b": task("b")}, rounds=2)
    assert ran == ["a", "b"] * 3
    assert {name: len(found) for name, found in seconds.items()} == {"a": 2, "b": 2}


def test_every_number_is_a_line_of_json(tmp_path):
    found = [compared("a", [2.0], [4.0], bar=0.6), Measured(name="speed", numerator=7.0, unit="tokens/s")]
    write_json(tmp_path / "found.json", found)
    first, second = map(json.loads, (tmp_path / "found.json").read_text().splitlines())
    assert first == {
        "name": "a",
        "numerator": 2.0,
        "denominator": 4.0,
        "ratio": 0.5,
        "unit": "s",
        "rounds": 1,
        "bar": 0.6,
    }
    assert second["denominator"] is None and second["ratio"] is None
    assert second["numerator"] == pytest.approx(7.0)


def test_a_command_costs_what_its_processes_took_and_one_that_fails_ends_with_its_words(tmp_path):
    inner = "sum(range(10**6)); bytearray(b'x' * 2**26)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    cost = cost_of([sys.executable, "-c", program], tmp_path)
    assert cost.processor_seconds > 0 and 0 < cost.seconds < 60
    assert cost.megabytes > 64  # of the process within the process
    with pytest.raises(SystemExit, match="no such thing"):
        cost_of([sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path)
