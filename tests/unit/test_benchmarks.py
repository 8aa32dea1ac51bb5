"""All benchmarks by one command, and the page of their numbers: what ran is not run again, what did not is said with its reason."""

import json
import platform
import runpy
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import run_all
from run_all import BENCHMARKS, Benchmark

import update_benchmarks
from update_benchmarks import met, number, result

ROOT = Path(__file__).parents[2]
NUMBER = {
    "name": "a, beside b",
    "numerator": 2.0,
    "denominator": 4.0,
    "ratio": 0.5,
    "unit": "s",
    "rounds": 3,
    "bar": 0.6,
}
# leaves a line, notes that it ran, and fails where its folder says so
SCRIPT = f"""
import json, sys
from pathlib import Path
folder = Path(__file__).parents[1]
with (folder / "ran.txt").open("a") as file:
    print(Path(__file__).stem, *sys.argv[1:-2], file=file)
if (folder / "fail").exists():
    sys.exit("no such thing")
Path(sys.argv[-1]).write_text(json.dumps({NUMBER!r}) + "\\n")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout whose two benchmarks take no time; what ran is noted in ran.txt."""
    for name in ("fast", "of_study"):
        (tmp_path / "benchmarks").mkdir(exist_ok=True)
        (tmp_path / "benchmarks" / f"{name}.py").write_text(SCRIPT)
    (tmp_path / "config.yaml").touch()
    (tmp_path / "numbers").mkdir()
    made_up = (
        Benchmark(
            name="fast",
            title="Fast",
            options=("--of", "model"),
            quick=("--rounds", "1"),
            beside=("transformer-lens", "nnsight"),
        ),
        Benchmark(name="of_study", title="Of a study", needs_finished=True),
    )
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    monkeypatch.setattr(run_all, "BENCHMARKS", made_up)
    monkeypatch.setattr(update_benchmarks, "BENCHMARKS", made_up)
    return tmp_path


def run(project, **options):
    return run_all.run_all(run_all.BENCHMARKS, project / "numbers", **options)


def ran(project):
    path = project / "ran.txt"
    return path.read_text().splitlines() if path.is_file() else []


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_imports(path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(path))


def test_what_is_measured_is_not_measured_again_until_code_or_command_change(project):
    assert run(project) == run(project) == []
    assert ran(project) == ["fast --of model"]
    assert json.loads((project / "numbers" / "fast.jsonl").read_text()) == NUMBER
    script = project / "benchmarks" / "fast.py"
    script.write_text(script.read_text() + "# another\n")
    run(project)
    run(project, quick=True)
    run(project, quick=True)
    run(project, quick=True, again=True)
    assert ran(project) == ["fast --of model"] * 2 + ["fast --of model --rounds 1"] * 2


def test_a_benchmark_that_fails_leaves_its_last_words_and_no_number_and_the_others_go_on(project):
    run(project)
    (project / "fail").touch()
    (project / run_all.FINISHED).parent.mkdir(parents=True)
    (project / run_all.FINISHED).touch()
    assert run(project, again=True) == ["fast", "of_study"]
    assert ran(project)[1:] == ["fast --of model", "of_study"]
    assert sorted(path.name for path in (project / "numbers").iterdir()) == ["fast.log", "of_study.log", "runs.json"]
    page = result(project / "numbers")
    assert page.count("Failed on") == 2 and "UTC: no such thing." in page
    (project / "fail").unlink()
    assert run(project) == []  # what failed is tried again
    assert (project / "numbers" / "of_study.jsonl").is_file()


def test_numbers_of_two_machines_are_not_mixed(project):
    folder = project / "numbers"
    run_all.known_machine(folder, {"processor": "a", "cores": 2}, again=False)
    run_all.known_machine(folder, {"processor": "a", "cores": 2}, again=False)
    with pytest.raises(SystemExit, match=r"numbers of another machine or environment \(processor: a, here b\)"):
        run_all.known_machine(folder, {"processor": "b", "cores": 2}, again=False)
    run_all.known_machine(folder, {"processor": "b", "cores": 2}, again=True)
    assert json.loads((folder / "machine.json").read_text())["processor"] == "b"


def test_the_page_has_every_number_and_says_what_is_missing_and_why(project):
    folder = project / "numbers"
    assert "0 numbers" in result(folder) and result(folder).count("Not measured yet") == 2
    run(project)
    run_all.known_machine(
        folder, {"processor": "a", "GPU": None, "transformer-lens": "4.3.0", "nnsight": None}, again=False
    )
    page = result(folder)
    assert "1 numbers, 1 of them with a bar, of which 1 are met. Missing: Of a study." in page
    assert "| a | 2 s | b | 4 s | 0.5 | ≤ 0.6 | yes | 3 |" in page
    assert "| processor | a |" in page and "| GPU | – |" in page
    assert "Not measured beside nnsight, not installed there" in page
    assert "it needs the finished default study" in page
    assert "--quick" not in page
    run(project, quick=True)
    assert "**With `--quick`" in result(folder)
    (folder / "fast.jsonl").unlink()
    assert "only fast`" in result(folder) and "Missing: Fast, Of a study." in result(folder)


def test_a_bar_is_met_by_a_ratio_that_is_not_above_it():
    assert (
        met(NUMBER) == "yes" and met({**NUMBER, "ratio": 0.6}) == "yes" and met({**NUMBER, "ratio": 0.61}) == "**no**"
    )
    assert met({**NUMBER, "bar": None}) == met({**NUMBER, "ratio": None}) == "–"
    assert [number(one, "s") for one in (12345.6, 0.01234, 12.345)] == ["12,346 s", "0.0123 s", "12.3 s"]


def test_every_benchmark_is_a_program_that_takes_its_options_and_writes_its_numbers():
    assert len({benchmark.name for benchmark in BENCHMARKS}) == len(BENCHMARKS) > 7
    for benchmark in BENCHMARKS:
        source = (ROOT / "benchmarks" / f"{benchmark.name}.py").read_text()
        given = (*benchmark.options, *benchmark.of_finished, *benchmark.quick)
        assert {option for option in given if option.startswith("--") and f'"{option}"' not in source} == set(), (
            benchmark
        )
        assert "add_json_option(parser)" in source and "write_json(arguments.json" in source
        assert {one for one in benchmark.options if "/" in one} == set(
            benchmark.reads
        ) or benchmark.name == "first_look"


def test_the_machine_has_no_name_and_says_how_wide_its_arithmetic_is():
    assert run_all.vector_extensions("fpu smep amx_bf16 sse4_2 avx512_bf16 avx2") == "amx_bf16 avx2 avx512_bf16 sse4_2"
    assert run_all.vector_extensions("fpu smap") is None
    found = run_all.machine({"torch": "1"})
    assert list(found)[:5] == ["system", "processor", "vector extensions", "cores", "memory, GiB"]
    assert found["cores"] >= 1 and found["torch"] == "1"
    assert platform.node() not in map(str, found.values())
