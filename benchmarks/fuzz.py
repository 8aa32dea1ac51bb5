"""Damaged files of every foreign format: how many are read right, how many refused in a sentence, and what else happens.

The formats, the ways of damage and what counts as right are those of ``tests/foreign_files.py``; here each format gets a time, and a
process of its own, so that a reader that crashes or hangs is counted too. Run from the root of the checkout::

    python benchmarks/fuzz.py --seconds 60 --seed 0

With ``--engine atheris`` (``pip install atheris``, for Linux) libFuzzer changes the bytes of whole files instead, guided by which lines of
this project's readers they reach.

It prints a table and ends with status 1 if anything was neither read right nor refused; what was is kept under ``--keep``, one file for
each place that failed, the shortest that was found.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from types import FunctionType

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts", "tests")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from hypothesis import HealthCheck, Phase, given, seed, settings

from foreign_files import FORMATS, READ, REFUSED, SECONDS, TookTooLongError, outcome

_BATCH = 200  # examples of one run of hypothesis, which remembers all of them
_HANGS = 10 * SECONDS  # s without a new example after which a process is taken to hang


def _place(error: BaseException) -> str:
    """Where an exception is from: its type, and the last lines of this project that it went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT) in frame.filename]
    last = frames[-1] if frames else None
    where = f"{Path(last.filename).relative_to(ROOT)}:{last.lineno}" if last else "elsewhere"
    return f"{type(error).__name__} in {where}"


def _try(name: str, engine: str, first: int, seconds: float, folder: Path) -> None:
    """Try files of one format for a time; write the counts and what failed to ``folder``."""
    format_ = FORMATS[name]
    files = format_.files()
    counts: Counter[str] = Counter()
    begin, batch = time.monotonic(), 0
    work = folder / "work"
    work.mkdir(exist_ok=True)

    def note() -> None:
        (folder / "counts.json").write_text(json.dumps({**counts, "batches": batch}))

    def one(content: bytes) -> None:
        if time.monotonic() - begin > seconds:
            return
        (folder / "current").write_bytes(content)
        try:
            found = outcome(format_, work, content)
        except (Exception, TookTooLongError) as error:
            found = "other"
            _keep(folder, _place(error), content, str(error))
        except BaseException as error:  # a panic of a library in Rust
            if type(error).__name__ != "PanicException":
                raise
            found = "other"
            _keep(folder, _place(error), content, str(error))
        counts[found] += 1
        if counts.total() % _BATCH == 0:
            note()

    if engine == "atheris":
        _by_atheris(one, files, folder, first, seconds, note)
    while time.monotonic() - begin < seconds:
        quiet = [
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.large_base_example,
        ]
        run = settings(
            max_examples=_BATCH, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=quiet
        )
        seed(first + batch)(run(given(format_.damaged(files))(one)))()
        batch += 1
        note()


def _by_atheris(one, files: list[bytes], folder: Path, first: int, seconds: float, note) -> None:
    """Let libFuzzer change whole files for a time, and end the process."""
    import atheris

    seeds = folder / "seeds"
    seeds.mkdir()
    for number, content in enumerate(files):
        (seeds / f"{number}").write_bytes(content)
    for name, module in list(sys.modules.items()):
        if name.startswith(("sinkorigin.", "harness.")):
            for function in vars(module).values():
                if isinstance(function, FunctionType) and function.__module__ == name:
                    atheris.instrument_func(function)
    end = time.monotonic() + seconds

    def one_of_libfuzzers(content: bytes) -> None:
        if time.monotonic() > end:
            note()
            os._exit(0)  # libFuzzer does not return
        one(content)

    atheris.Setup(["fuzz", f"-seed={first + 1}", f"-max_len={4 * max(map(len, files))}", str(seeds)], one_of_libfuzzers)
    atheris.Fuzz()


def _keep(folder: Path, place: str, content: bytes, message: str) -> None:
    """Keep the shortest content that failed at a place."""
    path = folder / f"failed-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    if not path.exists() or path.stat().st_size > len(content):
        path.write_bytes(content)
        path.with_suffix(".txt").write_text(f"{place}\n{message[:2000]}\n", errors="backslashreplace")


def tried(name: str, engine: str, first: int, seconds: float, keep: Path) -> Counter[str]:
    """Counts of one format, of processes that are started again after a crash, until the time is over."""
    counts: Counter[str] = Counter()
    begin = time.monotonic()
    while (left := seconds - (time.monotonic() - begin)) > 0:
        with tempfile.TemporaryDirectory() as name_of_folder:
            folder = Path(name_of_folder)
            process = multiprocessing.get_context("fork").Process(
                target=_quietly, args=(name, engine, first, left, folder)
            )
            process.start()
            hangs = _wait(process, folder)
            with contextlib.suppress(OSError):
                found = json.loads((folder / "counts.json").read_text())
                first += found.pop("batches")
                counts.update(found)
            if hangs or process.exitcode:
                why = "hangs" if hangs else f"ended with {process.exitcode}"
                counts["other"] += 1
                _keep(folder, why, (folder / "current").read_bytes(), why)
                first += 1
            keep.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("failed-*"):
                (keep / f"{name.replace(' ', '_').replace(',', '')}-{path.name}").write_bytes(path.read_bytes())
    return counts


def _quietly(*arguments) -> None:
    """Try files without what libraries print."""
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            _try(*arguments)
        except BaseException:
            (arguments[-1] / "failed-itself").write_bytes(b"")
            (arguments[-1] / "failed-itself.txt").write_text(traceback.format_exc())
            raise


def _wait(process: multiprocessing.Process, folder: Path) -> bool:
    """Wait for a process; whether it had to be ended because it hung."""
    current = folder / "current"
    while process.is_alive():
        process.join(1)
        if current.exists() and time.time() - current.stat().st_mtime > _HANGS:
            process.kill()
            process.join()
            return True
    return False


def main() -> int:
    """Try every format and print the table; 1 if anything was neither read right nor refused."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="time of each format")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first batch of each format")
    parser.add_argument("--format", action="append", choices=sorted(FORMATS), help="only this format; may be repeated")
    parser.add_argument(
        "--engine", choices=["hypothesis", "atheris"], default="hypothesis", help="what makes the files"
    )
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), help="folder for what failed")
    options = parser.parse_args()
    for name in options.format or FORMATS:  # what is made once, and imports, before processes copy it
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
            outcome(FORMATS[name], Path(folder), FORMATS[name].files()[0])
    print("| format | tried | read right | refused | other |\n|---|---:|---:|---:|---:|")
    other = 0
    for name in options.format or FORMATS:
        counts = tried(name, options.engine, options.seed, options.seconds, options.keep)
        other += counts["other"]
        print(f"| {name} | {counts.total()} | {counts[READ]} | {counts[REFUSED]} | {counts['other']} |", flush=True)
    return int(other > 0)


if __name__ == "__main__":
    sys.exit(main())
