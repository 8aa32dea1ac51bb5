"""Mutation score of statistics/ and claims/: the share of small changes to their code that the unit tests notice.

    python benchmarks/mutation.py --sample 600 --seed 1
    python benchmarks/mutation.py --sample all

mutmut makes the mutants: copies of each function with one change, of which an environment variable chooses one. They are far more than
the tests can be run on each time, so that a seeded random sample is drawn, stratified by module. A mutant is tried in a fork of a process
that has imported everything, on the tests that call its function, the fastest first, until one fails; the mutants of functions that run
while a module is imported are tried in a fork that imports the modules itself. Verdicts are written one by one to mutants/verdicts.jsonl,
and an interrupted run goes on where it stopped, unless code or tests have changed. The result is benchmarks/mutation.json, of which
docs/update_mutation.py makes docs/mutation.md.
"""

import argparse
import ast
import difflib
import hashlib
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "mutants"
MUTATED = ("sinkorigin/statistics", "sinkorigin/claims")
NOTES = WORK / "tests.json"  # of each test its seconds, of each function its tests
RESULT = ROOT / "benchmarks" / "mutation.json"
CHOICE = "MUTANT_UNDER_TEST"  # of mutmut: which mutant runs; "stats" notes the functions that are called
# The unit tests of statistics and claims. Those that are not named either need minutes or call them only on their way to something else.
TESTS = (
    "anatomy", "claim_tests", "claims", "grids", "intervention_statistics", "ladder", "learning_rates", "ledger_faults", "ledger_nulls",
    "ledger_statistics", "mechanism", "missing", "over_models", "page_sentences", "pretraining_comparison", "related_measures",
    "resampling", "shares", "sinks_under_patches", "statistics", "structure", "training_claims", "training_statistics",
    "exact_*", "properties_*",
)  # fmt: skip
# A survivor is tried on all of its tests as far as this many seconds go, the fastest first: what only a slower one would notice survives.
SECONDS_OF_TESTS = 5.0
LOST = 70  # status of a fork whose task itself fails, which is no verdict
HEAVY = ("numpy", "polars", "pyarrow.parquet", "scipy.special", "scipy.stats", "torch", "transformers", "pytest")


def test_files() -> list[str]:
    """Paths of the files of tests."""
    found = [path for name in TESTS for path in sorted((ROOT / "tests" / "unit").glob(f"test_{name}.py"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def fingerprint() -> str:
    """Hash of all code that a verdict depends on."""
    content = hashlib.sha256(Path(__file__).read_bytes())
    for folder in ("src", "tests", "workflow_scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            content.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return content.hexdigest()[:16]


def write_mutants() -> dict[str, list[str]]:
    """Write ``mutants/src``, a copy of ``src`` with all mutants, unless it is there; return the names of the mutants by module."""
    from mutmut.mutation.file_mutation import mutate_file_contents

    sources = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in sorted((ROOT / "src").rglob("*.py"))}
    version = hashlib.sha256(repr(sources).encode()).hexdigest()
    listed = WORK / "mutants.json"
    if listed.is_file():
        known = json.loads(listed.read_text())
        if known["version"] == version:
            return known["mutants"]
    shutil.rmtree(WORK / "src", ignore_errors=True)
    shutil.copytree(ROOT / "src", WORK / "src", ignore=shutil.ignore_patterns("__pycache__"))
    mutants: dict[str, list[str]] = {}
    for name, source in sources.items():
        if name.removeprefix("src/").startswith(MUTATED):
            made = mutate_file_contents(name, source.decode())
            module = name.removeprefix("src/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            (WORK / name).write_text(made.code)
            if made.mutant_names:
                mutants[module] = sorted(f"{module}.{mutant}" for mutant in made.mutant_names)
    listed.write_text(json.dumps({"version": version, "mutants": mutants}))
    return mutants


def function_of(mutant: str) -> str:
    """The function that a mutant is one of, by mutmut's name for it."""
    return mutant.rpartition("__mutmut_")[0]


def drawn(mutants: Mapping[str, Sequence[str]], size: int | None, seed: int) -> list[str]:
    """A random sample, stratified by module: of each as many as its share of all, rounded by the largest remainders, but one at least.

    Args:
        mutants: names by module.
        size: of the sample; None for all.
        seed: of the draw, and of the order in which they are tried.
    """
    total = sum(map(len, mutants.values()))
    if size is None or size >= total:
        return [mutant for names in mutants.values() for mutant in names]
    exact = {module: size * len(names) / total for module, names in mutants.items()}
    counts = {module: math.floor(share) for module, share in exact.items()}
    rest = sorted(exact, key=lambda module: (counts[module] - exact[module], module))
    for module in rest[: size - sum(counts.values())]:
        counts[module] += 1
    draw = random.Random(seed)
    sample = [one for module in sorted(mutants) for one in draw.sample(sorted(mutants[module]), max(counts[module], 1))]
    draw.shuffle(sample)
    return sample


class Loop:
    """Pytest plugin which tries mutants in place of running the tests.

    Attributes:
        measure: whether to run every test once, unchanged, and note its time and the functions that it calls.
        mutants: those to try.
        until: time of the clock at which to stop.
    """

    def __init__(self, fingerprint: str, mutants: Sequence[str], until: float):
        self.fingerprint, self.mutants, self.until = fingerprint, mutants, until

    def pytest_runtestloop(self, session) -> bool:
        from mutmut.state import state

        called_on_import = sorted(state()._stats)
        state()._stats.clear()
        if not is_noted(self.fingerprint):
            in_fork(lambda: note_tests(session, self.fingerprint, called_on_import), 3600)
            if not is_noted(self.fingerprint):
                return True
        noted = json.loads(NOTES.read_text())
        items = {item.nodeid: item for item in session.items}
        for mutant in self.mutants:
            if function_of(mutant) in noted["called_on_import"] or time.time() > self.until:
                continue
            tests = chosen(noted, mutant)
            try_mutant(
                self.fingerprint,
                mutant,
                tests,
                noted,
                lambda tests=tests: run(session, [items[test] for test in tests]),
            )
        return True


def note_tests(session, fingerprint: str, called_on_import: list[str]) -> int:
    """Run every test; write its seconds and the functions that it calls; return 1 if one fails."""
    from mutmut.state import state

    os.environ[CHOICE] = "stats"
    seconds, tests = {}, defaultdict(list)
    for item in session.items:
        start = time.process_time()
        if run(session, [item]):
            return 1
        seconds[item.nodeid] = time.process_time() - start
        for function in state()._stats:
            tests[function].append(item.nodeid)
        state()._stats.clear()
    write(
        NOTES,
        {"fingerprint": fingerprint, "seconds": seconds, "tests": tests, "called_on_import": called_on_import},
    )
    return 0


def is_noted(fingerprint: str) -> bool:
    """Whether ``NOTES`` are those of this version of code and tests."""
    return NOTES.is_file() and json.loads(NOTES.read_text())["fingerprint"] == fingerprint


def run(session, items: Sequence) -> int:
    """Run tests until one fails: 1; 0 if none does."""
    for item in items:
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        if session.testsfailed:
            return 1
    return 0


def chosen(noted: Mapping, mutant: str) -> list[str]:
    """The tests for a mutant, the fastest first, as far as ``SECONDS_OF_TESTS`` go."""
    if function_of(mutant) in noted["called_on_import"]:  # whoever imports the module may notice
        module = mutant.rpartition(".")[0]
        tests = {test for name, found in noted["tests"].items() if name.rpartition(".")[0] == module for test in found}
    else:
        tests = set(noted["tests"].get(function_of(mutant), ()))
    ordered = sorted(tests, key=lambda test: (noted["seconds"][test], test))
    passed, kept = 0.0, []
    for test in ordered:
        passed += noted["seconds"][test]
        if kept and passed > SECONDS_OF_TESTS:
            break
        kept.append(test)
    return kept


def try_mutant(fingerprint: str, mutant: str, tests: Sequence[str], noted: Mapping, task) -> None:
    """Run a mutant's tests in a fork, and write the verdict."""
    start = time.time()
    if not tests:
        verdict = "no test calls it"
    else:
        os.environ[CHOICE] = mutant
        limit = 20 + 10 * sum(noted["seconds"][test] for test in tests)
        status = in_fork(task, limit)
        verdict = {0: "survived", None: "out of time"}.get(status, "killed")
    line = {"fingerprint": fingerprint, "mutant": mutant, "verdict": verdict, "seconds": round(time.time() - start, 2)}
    with open(WORK / "verdicts.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def in_fork(task, seconds: float) -> int | None:
    """Status with which a task ends in a fork of this process: that which it returns, minus a signal's number, None if its time is over."""
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds)))
            os._exit(int(task()))
        except BaseException:
            traceback.print_exc()
            os._exit(LOST)
    until = time.time() + seconds
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code == LOST:
                raise SystemExit(f"a fork failed beside its tests; see {WORK / 'pytest.log'}")
            return None if code in (-signal.SIGXCPU, -signal.SIGKILL) else code
        if time.time() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def in_pytest(arguments: Sequence[str], plugins: Sequence = ()) -> int:
    """Exit status of pytest on the mutated code, its output in ``mutants/pytest.log``."""
    import pytest

    log = os.open(WORK / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:randomly",
        f"--basetemp={WORK / 'tmp'}",
    ]
    paths = " ".join([str(WORK / "src"), "workflow_scripts", "tests", "docs"])
    return int(pytest.main([*options, "-o", f"pythonpath={paths}", *arguments], plugins=plugins))


def write(path: Path, content) -> None:
    """Write JSON to a temporary name, and rename it."""
    path.with_suffix(".tmp").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".tmp").replace(path)


def verdicts(fingerprint: str) -> dict[str, str]:
    """Verdicts of this version of code and tests by mutant."""
    path = WORK / "verdicts.jsonl"
    lines = map(json.loads, path.read_text().splitlines()) if path.is_file() else ()
    return {line["mutant"]: line["verdict"] for line in lines if line["fingerprint"] == fingerprint}


def change_of(mutant: str) -> str:
    """What a mutant changes: the lines that differ, ``- before`` and ``+ after``."""
    module, _, name = mutant.rpartition(".")
    [path] = [
        path
        for path in (WORK / "src" / f"{module.replace('.', '/')}{end}" for end in (".py", "/__init__.py"))
        if path.is_file()
    ]
    text = path.read_text()
    lines = text.splitlines()
    functions = {
        node.name: lines[node.lineno : node.end_lineno]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    compared = difflib.unified_diff(
        functions[function_of(mutant).rpartition(".")[2] + "__mutmut_orig"], functions[name], n=0, lineterm=""
    )
    return "\n".join(
        f"{line[0]} {line[1:].strip()}" for line in compared if line[0] in "+-" and line[:3] not in ("+++", "---")
    )


def result(
    mutants: Mapping[str, Sequence[str]], sample: Sequence[str], found: Mapping[str, str], seed: int | None
) -> dict:
    """What ``RESULT`` holds."""
    from importlib.metadata import version

    counts = {module: defaultdict(int) for module in mutants}
    survivors = []
    for mutant in sorted(sample):
        module, _, name = mutant.rpartition(".")
        counts[module][found[mutant]] += 1
        if found[mutant] not in ("killed", "out of time"):
            function = function_of(name).removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
            survivors.append(
                {"module": module, "function": function, "change": change_of(mutant), "verdict": found[mutant]}
            )
    modules = {module: {"mutants": len(names), **counts[module]} for module, names in sorted(mutants.items())}
    return {"mutmut": version("mutmut"), "seed": seed, "modules": modules, "survivors": survivors}


def remaining(sample: Sequence[str], found: Mapping[str, str]) -> list[str]:
    """Mutants without a verdict."""
    return [mutant for mutant in sample if mutant not in found]


def measure(sample: Sequence[str], version: str, until: float) -> None:
    """Try the mutants of a sample that have no verdict yet, until some time."""
    for module in HEAVY:
        __import__(module)
    os.environ[CHOICE] = "stats"
    left = remaining(sample, verdicts(version))
    if left:
        in_fork(lambda: in_pytest(test_files(), [Loop(version, left, until)]), 10**6)
    if not is_noted(version):
        raise SystemExit(f"the tests fail without a mutant; see {WORK / 'pytest.log'}")
    noted = json.loads(NOTES.read_text())
    for mutant in remaining(left, verdicts(version)):
        if function_of(mutant) in noted["called_on_import"] and time.time() < until:
            tests = chosen(noted, mutant)
            try_mutant(version, mutant, tests, noted, lambda tests=tests: in_pytest(tests))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", default="600", help="number of mutants, or all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command goes on")
    asked = parser.parse_args()
    until = time.time() + 60 * asked.minutes
    os.chdir(ROOT)
    WORK.mkdir(exist_ok=True)
    mutants = write_mutants()
    size = None if asked.sample == "all" else int(asked.sample)
    sample, version = drawn(mutants, size, asked.seed), fingerprint()
    measure(sample, version, until)
    found = verdicts(version)
    left = remaining(sample, found)
    print(f"{len(sample) - len(left)} of {len(sample)} mutants tried; " + ", ".join(tally(found, sample)))
    if left:
        sys.exit("the same command goes on")
    write(RESULT, result(mutants, sample, found, None if size is None else asked.seed))


def tally(found: Mapping[str, str], sample: Sequence[str]) -> Iterator[str]:
    """Number of mutants by verdict, in words."""
    counts = defaultdict(int)
    for mutant in sample:
        if mutant in found:
            counts[found[mutant]] += 1
    yield from (f"{count} {verdict}" for verdict, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
