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
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = ROOT / "mutants"
MUTATED = ("sinkorigin/statistics", "sinkorigin/claims")
MUTANTS = WORK / "mutants.json"  # of each file its mutants
NOTES = WORK / "tests.jsonl"  # of each test its seconds, and the functions that it calls
ON_IMPORT = WORK / "called_on_import.json"  # the functions that run while a module is imported
VERDICTS = WORK / "verdicts.jsonl"
RESULT = ROOT / "benchmarks" / "mutation.json"
CHOICE = "MUTANT_UNDER_TEST"  # of mutmut: which mutant runs; "stats" notes the functions that are called
# The unit tests of statistics and claims. Those that are not named either need minutes or call them only on their way to something else.
TESTS = (
    "anatomy", "claim_tests", "claims", "grids", "intervention_statistics", "ladder", "learning_rates", "ledger_faults",
    "ledger_statistics", "missing", "over_models", "page_sentences", "pretraining_comparison", "pretraining_timing", "related_measures",
    "resampling", "shares", "sinks_under_patches", "statistics", "structure", "training_claims", "training_statistics",
    "exact_*", "properties_bootstrap", "properties_statistics",
)  # fmt: skip
# A survivor is tried on all of its tests as far as this many seconds go, the fastest first: what only a slower one would notice survives.
SECONDS_OF_TESTS = 3.0
# What runs while a module is imported mostly makes schemas and claims, which pages repeat word by word.
DECLARED = (
    "tests/unit/test_docs.py::test_the_page_of_the_tables_is_as_the_schemas_say",
    "tests/unit/test_claims.py::test_the_page_of_the_claims_is_that_of_their_declarations",
)
AT_ONCE = 100  # mutants that one process tries
LOST = 70  # status of a fork whose task itself fails, which is no verdict
HEAVY = ("numpy", "polars", "pyarrow.parquet", "scipy.special", "scipy.stats", "torch", "transformers", "pytest")


def test_files() -> list[str]:
    """Paths of the files of tests."""
    found = [path for name in TESTS for path in sorted((ROOT / "tests" / "unit").glob(f"test_{name}.py"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def hash_of(files: Iterable[Path]) -> str:
    """Hash of the names and contents of files."""
    content = hashlib.sha256()
    for path in files:
        content.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return content.hexdigest()[:16]


@cache
def version_of(*names: str) -> str:
    """Hash of files of tests, of what the files of tests share, and of the code that they test."""
    shared = [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").glob("*.py"), ROOT / "tests" / "unit" / "conftest.py"]
    return hash_of([*sorted(shared), *(ROOT / name for name in names)])


def write_mutants() -> dict[str, list[str]]:
    """Write ``mutants/src``, a copy of ``src`` with all mutants; return the names of the mutants by module.

    A file that has not changed since the last time stays as it is.
    """
    from mutmut.mutation.file_mutation import mutate_file_contents

    known = json.loads(MUTANTS.read_text()) if MUTANTS.is_file() else {}
    files: dict[str, dict] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        name, code = path.relative_to(ROOT / "src").as_posix(), path.read_text()
        version = hashlib.sha256(code.encode()).hexdigest()
        place = WORK / "src" / name
        if name in known and known[name]["version"] == version and place.is_file():
            files[name] = known[name]
            continue
        found: Sequence[str] = ()
        if name.startswith(MUTATED):
            made = mutate_file_contents(name, code)
            code, found = made.code, made.mutant_names
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(code)
        module = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        files[name] = {
            "version": version,
            "module": module,
            "mutants": sorted(f"{module}.{mutant}" for mutant in found),
        }
    for name in known.keys() - files.keys():
        (WORK / "src" / name).unlink(missing_ok=True)
    write(MUTANTS, files)
    return {file["module"]: file["mutants"] for file in files.values() if file["mutants"]}


def function_of(mutant: str) -> str:
    """The function that a mutant is one of, by mutmut's name for it."""
    return mutant.rpartition("__mutmut_")[0]


def drawn(mutants: Mapping[str, Sequence[str]], size: int | None, seed: int) -> list[str]:
    """A random sample, stratified by module: systematic, so that of each module as many are drawn as its share of all, give or take one.

    Args:
        mutants: names by module.
        size: of the sample; None for all.
        seed: of the draw.

    Returns:
        Names, in an order whose beginning of any length is the sample of that size.
    """
    places = []
    for module, names in mutants.items():
        draw = random.Random(f"{seed} {module}")
        start = draw.random()
        order = draw.sample(sorted(names), len(names))
        places += [((number + start) / len(names), name) for number, name in enumerate(order)]
    return [name for _, name in sorted(places)[:size]]


def noted() -> dict[str, dict]:
    """Facts of each test of this version of code and tests: its ``seconds``, those of its ``setup``, and the ``functions`` that it calls."""
    versions = {name: version_of(name) for name in test_files()}
    found = {}
    for line in map(json.loads, NOTES.read_text().splitlines()) if NOTES.is_file() else ():
        if versions.get(line["test"].partition("::")[0]) == line["version"]:
            found[line["test"]] = line
    return found


class Loop:
    """Pytest plugin which tries mutants in place of running the tests.

    Attributes:
        fingerprint: of the code and the tests.
        mutants: those to try.
        until: time of the clock at which to stop.
        durations: seconds of setup, call and teardown of the last test.
    """

    def __init__(self, fingerprint: str, mutants: Sequence[str], until: float):
        self.fingerprint, self.mutants, self.until = fingerprint, mutants, until
        self.durations: dict[str, float] = {}

    def pytest_runtestloop(self, session) -> bool:
        from mutmut.state import state

        if any(path.read_text().startswith("polars-0") for path in Path("/proc/self/task").glob("*/comm")):
            raise RuntimeError(
                "a file of tests computes with Polars when it is imported: its threads are lost in a fork"
            )
        called_on_import = sorted(state()._stats)
        write(ON_IMPORT, called_on_import)
        state()._stats.clear()
        tests = noted()
        if left := [item for item in session.items if item.nodeid not in tests]:
            in_fork(lambda: self.note(session, left), 3600)
            tests = noted()
        items = {item.nodeid: item for item in session.items}
        if items.keys() - tests.keys():
            return True
        tests = {name: tests[name] for name in items}
        for mutant in self.mutants:
            if function_of(mutant) not in called_on_import and time.time() < self.until:
                names = chosen(tests, mutant)
                task = partial(run, session, [items[name] for name in names])
                try_mutant(self.fingerprint, mutant, [tests[name] for name in names], task)
        return True

    def note(self, session, items: Sequence) -> int:
        """Run tests one by one, without a mutant, and write their notes.

        A test that fails has no functions in its notes, so that it is run for no mutant.
        """
        from mutmut.state import state

        os.environ[CHOICE] = "stats"
        for item, following in zip(items, [*items[1:], None], strict=True):
            if time.time() > self.until:
                return 1
            self.durations = {}
            fails = bool(run(session, [item], following))
            session.testsfailed, session.shouldfail = 0, False
            note = {"version": version_of(item.nodeid.partition("::")[0]), "test": item.nodeid, "fails": fails}
            note |= {
                "shared": uses_shared(item),
                "setup": self.durations["setup"],
                "seconds": self.durations.get("call", 0.0),
            }
            append(NOTES, note | {"functions": [] if fails else sorted(state()._stats)})
            state()._stats.clear()
        return 0

    def pytest_runtest_logreport(self, report) -> None:
        self.durations[report.when] = report.duration


def uses_shared(item) -> bool:
    """Whether a test uses a fixture that the tests of its file share, so that the first of them makes it."""
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    return any(found[-1].scope != "function" and found[-1].baseid for found in fixtures)


def run(session, items: Sequence, following=None) -> int:
    """Run tests until one fails: 1; 0 if none does.

    Args:
        following: the test after them, whose shared fixtures stay.
    """
    for item, after in zip(items, [*items[1:], following], strict=True):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
        if session.testsfailed:
            return 1
    return 0


def chosen(tests: Mapping[str, Mapping], mutant: str, *, on_import: bool = False) -> list[str]:
    """The tests for a mutant, the fastest first, as far as ``SECONDS_OF_TESTS`` go.

    Args:
        tests: see :func:`noted`.
        on_import: whether its function runs while its module is imported. Which tests call what it has made, such as a function inside of
            it, is not known: those count that call another function of the module, or, where none does, one of the package.
    """
    function = function_of(mutant)
    places = (f"{function.rpartition('.')[0]}.", f"{'.'.join(function.split('.')[:2])}.") if on_import else (function,)
    found: list[str] = []
    for place in places:
        found = found or [
            test
            for test, note in tests.items()
            if any(name.startswith(place) if on_import else name == place for name in note["functions"])
        ]
    setups: dict[str, float] = defaultdict(float)  # seconds of what the tests of a file share
    for test, note in tests.items():
        if note["shared"]:
            file = test.partition("::")[0]
            setups[file] = max(setups[file], note["setup"])

    def seconds(test: str) -> tuple[float, str]:
        return tests[test]["seconds"] + (setups[test.partition("::")[0]] if tests[test]["shared"] else 0.0), test

    passed, kept = 0.0, []
    for test in sorted(found, key=seconds):
        passed += tests[test]["seconds"]
        if kept and passed > SECONDS_OF_TESTS:
            break
        kept.append(test)
    return kept


def try_mutant(fingerprint: str, mutant: str, tests: Sequence[Mapping], task: Callable[[], int]) -> None:
    """Run a mutant's tests in a fork, and write the verdict, unless another process has come first."""
    if mutant in verdicts(fingerprint):
        return
    start = time.time()
    verdict = "no test calls it"
    if tests:
        os.environ[CHOICE] = mutant
        status = in_fork(task, 30 + 10 * sum(test["seconds"] for test in tests))
        verdict = {0: "survived", None: "out of time"}.get(status, "killed")
    seconds = round(time.time() - start, 2)
    append(VERDICTS, {"fingerprint": fingerprint, "mutant": mutant, "verdict": verdict, "seconds": seconds})


def in_fork(task: Callable[[], int], seconds: float) -> int | None:
    """Status with which a task ends in a fork of this process: that which it returns, minus a signal's number, None if its time is over.

    Args:
        seconds: of the processor; a task that waits may take six times as long.
    """
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds)))
            os._exit(int(task()))
        except BaseException:
            traceback.print_exc()
            os._exit(LOST)
    until = time.time() + 6 * seconds
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

    log = os.open(WORK / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = [
        "-x",
        "-q",
        f"--basetemp={WORK / f'tmp-{os.getpid()}'}",
        *(f"-pno:{name}" for name in ("cacheprovider", "xdist", "randomly")),
    ]
    paths = " ".join([str(WORK / "src"), "workflow_scripts", "tests", "docs"])
    return int(pytest.main([*options, "-o", f"pythonpath={paths}", *arguments], plugins=plugins))


def in_turn(*several: Sequence[str]) -> int:
    """Exit status of the first tests that fail; 0 if none do."""
    return next(filter(None, map(in_pytest, several)), 0)


def write(path: Path, content) -> None:
    """Write JSON to a temporary name, and rename it."""
    path.with_suffix(".tmp").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".tmp").replace(path)


def append(path: Path, line: Mapping) -> None:
    """Add a line of JSON to a file."""
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")


def verdicts(fingerprint: str) -> dict[str, str]:
    """Verdicts of this version of code and tests by mutant."""
    lines = map(json.loads, VERDICTS.read_text().splitlines()) if VERDICTS.is_file() else ()
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
        node.name: [line.replace(node.name, "", 1) for line in lines[node.lineno - 1 : node.end_lineno]]
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
    os.environ[CHOICE] = "stats"
    left = remaining(sample, verdicts(version))
    if not left or time.time() > until:
        return
    in_fork(lambda: in_pytest(test_files(), [Loop(version, left, until)]), 10**6)
    called_on_import, tests = json.loads(ON_IMPORT.read_text()), noted()
    for mutant in remaining(left, verdicts(version)):
        if function_of(mutant) in called_on_import and time.time() < until:
            names = chosen(tests, mutant, on_import=True)
            try_mutant(version, mutant, [tests[name] for name in names], partial(in_turn, DECLARED, names))


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
    sample, version = drawn(mutants, size, asked.seed), version_of(*test_files())
    for module in HEAVY:
        __import__(module)
    for end in range(AT_ONCE, len(sample) + AT_ONCE, AT_ONCE):
        measure(sample[:end], version, until)
    found = verdicts(version)
    left = remaining(sample, found)
    print(f"{len(sample) - len(left)} of {len(sample)} mutants tried; " + ", ".join(tally(found, sample)))
    # the beginning of a sample is a sample too
    if tried := sample.index(left[0]) if left else len(sample):
        write(RESULT, result(mutants, sample[:tried], found, None if size is None else asked.seed))
    if failing := [name for name, note in noted().items() if note["fails"]]:
        print("left out, because they fail in a fork without a mutant:", *failing, sep="\n")
    if left:
        sys.exit(f"the same command goes on; if it tries none, see {WORK / 'pytest.log'}")


def tally(found: Mapping[str, str], sample: Sequence[str]) -> Iterator[str]:
    """Number of mutants by verdict, in words."""
    counts = defaultdict(int)
    for mutant in sample:
        if mutant in found:
            counts[found[mutant]] += 1
    yield from (f"{count} {verdict}" for verdict, count in sorted(counts.items()))


if __name__ == "__main__":
    main()
