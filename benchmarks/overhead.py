"""What orchestration costs in a finished study: the share of its jobs' wall time that is not work inside their scripts.

    python benchmarks/overhead.py results/default

Σ (wall − work) / Σ wall over all jobs of the study. Wall is Snakemake's benchmark of the job: starting a process, reading what
Snakemake hands over, imports, work, ending. Work is what the script itself measured and wrote as the last line of its log,
imports taken off, those inside functions too. The bar is 15 %.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]

from harness.job import Record
from harness.plan import read_benchmark

BAR = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="results/{study}; the models beside it count too")
    study = parser.parse_args().study
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])  # jobs, wall, work, imports
    without = []
    for folder in (study, study.parent):
        for path in sorted((folder / "benchmarks").rglob("*.tsv")):
            name = path.relative_to(folder / "benchmarks")
            record, seen = Record.read(folder / "logs" / name.with_suffix(".log")), read_benchmark(path)
            if record is None:
                without.append(str(path))
                continue
            for i, value in enumerate((1, seen["s"], record.work, record.imports)):
                sums[name.with_suffix("").parts[0]][i] += value
    if not sums:
        sys.exit(f"no job of {study} has left a benchmark and a log; run the study first")
    for rule, (jobs, wall, work, imports) in sorted(sums.items(), key=lambda item: item[1][2] - item[1][1]):
        print(f"{rule}: {jobs} jobs, {wall:.1f} s, {wall - work:.1f} s of them no work ({imports:.1f} s imports)")
    _, wall, work, imports = map(sum, zip(*sums.values(), strict=True))
    share = (wall - work) / wall
    print(f"in all: {wall:.0f} s, {wall - work:.0f} s of them no work ({imports:.0f} s imports)")
    print(f"overhead {share:.1%}, bar {BAR:.0%}")
    if without:
        print(f"left out, because their logs tell no times: {', '.join(without)}")


if __name__ == "__main__":
    main()
