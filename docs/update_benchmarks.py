"""Write the numbers in docs/benchmarks.md from the files of benchmarks/run_all.py: ``make benchmarks`` does both.

A folder of other numbers than those in results/benchmarks can be given: ``python docs/update_benchmarks.py results/benchmarks/quick``.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "docs", "benchmarks")]

from run_all import BENCHMARKS, RESULTS, Benchmark

from ledger_tables import table
from update_readme import between

HEAD = ("what was measured", "", "beside what", "", "ratio", "bar", "met", "rounds")


def number(value: float | None, unit: str = "") -> str:
    """A number with three significant digits, and its unit."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def met(one: Mapping) -> str:
    """Whether a number is within its bar."""
    if one["bar"] is None or one["ratio"] is None:
        return "–"
    return "yes" if one["ratio"] <= one["bar"] else "**no**"


def row(one: Mapping) -> list[str]:
    """Cells of one number."""
    what, _, other = one["name"].partition(", beside ")
    measured, beside = (number(one[side], one["unit"]) for side in ("numerator", "denominator"))
    bar = "–" if one["bar"] is None else f"≤ {number(one['bar'])}"
    return [what, measured, other or "–", beside, number(one["ratio"]), bar, met(one), f"{one['rounds']}"]


def missing(benchmark: Benchmark, run: Mapping | None) -> str | None:
    """Why a benchmark has no numbers; None where it has."""
    if run is None:
        return f"Not measured yet: `make benchmarks`, or `python benchmarks/run_all.py --only {benchmark.name}`."
    if run["outcome"] == "measured":
        return None
    return f"{'Failed' if run['outcome'] == 'failed' else 'Left out'} on {run['date']} UTC: {run['reason']}."


def section(benchmark: Benchmark, run: Mapping | None, found: Sequence[Mapping], machine: Mapping) -> list[str]:
    """Paragraphs of one benchmark."""
    parts = [f"## {benchmark.title}"]
    why = missing(benchmark, run)
    if run is None or why is not None:
        return [*parts, f"{why}"]
    parts += [
        f"`{run['command']}`, {run['date']} UTC, {run['seconds']:.0f} s.",
        "\n".join(table(HEAD, map(row, found))),
    ]
    absent = [package for package in benchmark.beside if not machine.get(package)]
    if absent:
        parts.append(f"Not measured beside {' and '.join(absent)}, not installed there (`make beside`).")
    return parts


def result(folder: Path) -> str:
    """The numbers, in Markdown."""

    def read(name: str) -> dict:
        path = folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def there(benchmark: Benchmark, run: Mapping) -> bool:
        return run["outcome"] != "measured" or (folder / f"{benchmark.name}.jsonl").is_file()

    machine, told = read("machine.json"), read("runs.json")
    # without those whose numbers were removed
    runs = {one.name: told[one.name] for one in BENCHMARKS if one.name in told and there(one, told[one.name])}
    parts, numbers = [], []
    for benchmark in BENCHMARKS:
        path, run = folder / f"{benchmark.name}.jsonl", runs.get(benchmark.name)
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
        numbers += found if run else []
        parts += section(benchmark, run, found, machine)
    judged = [one for one in numbers if met(one) != "–"]
    without = [benchmark.title for benchmark in BENCHMARKS if missing(benchmark, runs.get(benchmark.name))]
    start = [
        f"{len(numbers)} numbers, {len(judged)} of them with a bar, of which {sum(met(one) == 'yes' for one in judged)} are met. "
        + (f"Missing: {', '.join(without)}." if without else "None is missing.")
    ]
    if any(run["quick"] for run in runs.values()):
        start.append(
            "**With `--quick`: fewer rounds and smaller sizes, which show that the benchmarks run and decide nothing.**"
        )
    if machine:
        cells = [[key, "–" if value is None else f"{value}"] for key, value in machine.items()]
        start.append("\n".join(table(("machine", ""), cells)))
    return "\n\n".join([*start, *parts])


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / RESULTS
    page = ROOT / "docs" / "benchmarks.md"
    page.write_text(between(page.read_text(), "benchmarks", result(folder), page="docs/benchmarks.md"))


if __name__ == "__main__":
    main()
