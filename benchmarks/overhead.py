"""What orchestration costs in a finished study: the share of its jobs' wall time that is not work.

    python benchmarks/overhead.py [config.yaml …]

A job's wall time is that of Snakemake's benchmark. What is no work of it: the time outside the script's body (starting a process,
reading what Snakemake hands over, ending), which is wall time less the seconds in the last line of its log; and importing what
the script imports, which is measured here in fresh interpreters, the lesser of two times less the start of an empty one. Modules
that a library imports only when it is used count as work. The bar is 15 %. Of the default study, the trainings are held against
12 minutes on two cores: the sum of their wall times, each times its threads, by two.
"""

import argparse
import subprocess
import sys
import time
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = [str(ROOT / folder) for folder in ("src", "workflow_scripts")]
sys.path[:0] = FOLDERS

from measured import Measured, add_json_option, write_json

from harness.code_version import Code
from harness.job import Record
from harness.plan import read_benchmark
from harness.snakemake_internals import planned_jobs

BAR = 0.15
TRAININGS, CORES = 12 * 60, 2  # s, and on how many cores, that the trainings of the default study may take
CODE = Code(ROOT, lock=ROOT / "requirements.lock")


def imported_by(rule: str, script: Path) -> tuple[str, ...]:
    """Modules that a rule's script imports, and the statistic or figure of the rule's name, which it loads by name."""
    name = rule.partition("_")[2]
    named = [
        f"sinkorigin.{kind}.{name}"
        for kind in ("statistics", "figures")
        if (ROOT / f"src/sinkorigin/{kind}/{name}.py").is_file()
    ]
    return (*CODE.parsed(script)[1], *named)


@cache
def import_seconds(modules: tuple[str, ...]) -> float:
    """Seconds that importing these takes in a fresh interpreter, beyond its start; names in a module are passed over."""
    lines = [f"import sys; sys.path[:0] = {FOLDERS}"]
    lines += [f"try: import {module}\nexcept ImportError: pass" for module in modules]

    def run(program: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
        return time.perf_counter() - began

    return min(run("\n".join(lines)) for _ in range(2)) - (import_seconds(()) if modules else 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configfiles", type=Path, nargs="*", help="of the finished study, as after --configfile")
    add_json_option(parser)
    arguments = parser.parse_args()
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])  # jobs, wall, outside, imports
    without, training = [], 0.0
    with planned_jobs(ROOT / "Snakefile", ["all"], configfiles=arguments.configfiles, config={}) as (jobs, _):
        for _, job in jobs:
            seen, record = read_benchmark(job.benchmark), Record.read(job.log[0])
            if record is None or seen is None:
                without.append(str(job))
                continue
            if job.rule.name.startswith("pretrain"):
                training += seen["s"] * job.threads / CORES
            script = ROOT / "workflow_scripts" / Path(job.rule.script).name
            imports = import_seconds(imported_by(job.rule.name, script))
            for i, value in enumerate((1, seen["s"], seen["s"] - record.seconds, imports)):
                sums[job.rule.name][i] += value
    if not sums:
        sys.exit("no job of this study has left a benchmark and a log; run the study first")
    for rule, (count, wall, outside, imports) in sorted(sums.items(), key=lambda item: -sum(item[1][2:])):
        print(
            f"{rule}: {count} jobs, {wall:.1f} s, {outside:.1f} s of them outside the script's body, {imports:.1f} s imports"
        )
    _, wall, outside, imports = map(sum, zip(*sums.values(), strict=True))
    print(f"in all: {wall:.0f} s, {outside:.0f} s of them outside the script's body, {imports:.0f} s imports")
    overhead = outside + imports
    print(f"overhead {overhead / wall:.1%}, bar {BAR:.0%}")
    name = "orchestration and imports, beside all time of jobs"
    found = [Measured(name=name, numerator=overhead, denominator=wall, ratio=overhead / wall, bar=BAR)]
    if training and not arguments.configfiles:
        print(f"trainings on {CORES} cores: {training / 60:.1f} minutes, bar {TRAININGS / 60:g}")
        name = f"trainings of the default study on {CORES} cores, beside {TRAININGS / 60:g} minutes"
        found.append(
            Measured(name=name, numerator=training, denominator=TRAININGS, ratio=training / TRAININGS, bar=1.0)
        )
    write_json(arguments.json, found)
    if without:
        print(f"left out, because they left no times: {', '.join(without)}")


if __name__ == "__main__":
    main()
