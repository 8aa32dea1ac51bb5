"""All benchmarks one after the other, on the default study's model: numbers into results/benchmarks, of which docs/benchmarks.md is made.

    python benchmarks/run_all.py                          # make benchmarks does this, and then writes the page
    python benchmarks/run_all.py --only extraction memory
    python benchmarks/run_all.py --quick                  # fewer rounds and smaller sizes, into results/benchmarks/quick

Nothing else should run on the machine meanwhile. Each benchmark is a process, which leaves ``{name}.jsonl`` (``benchmarks/measured.py``) and
``{name}.log``; ``runs.json`` tells of each when it ran and how, or why not, and ``machine.json`` on what. What is measured already, with the
same command, code and machine, is not measured again, so that the same command finishes an interrupted run; ``--again`` measures it all the
same. What a benchmark reads of the default study is made first, where it is cheap; what needs the finished study, a GPU or a package that is not
there is left out, and the page says so.

TransformerLens and nnsight are timed where the interpreter of ``--beside`` has them: ``make beside`` installs both in .venv/beside.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path("results") / "benchmarks"
BESIDE = Path(".venv") / "beside" / "bin" / "python"
FINISHED = "results/default/index.html"  # the last file of the default study
MODEL = "results/models/smollm2-135m"
PROMPTS = "results/default/prompts/smollm2-135m/random_tokens.parquet"
STATISTICS = "results/default/statistics/smollm2-135m/random_tokens"
TOKENS, TOKENIZER = (f"results/default/pretraining/data/shakespeare/{kind}" for kind in ("tokens", "tokenizer"))
PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight")
_VECTORS = re.compile(r"avx\w*|amx\w*|fma|f16c|sse4_2|asimd\w*|neon|sve\w*|sme2?|bf16|i8mm")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark, and how it is run.

    Attributes:
        name: of its module in ``benchmarks/``.
        title: of its section of the page.
        options: of its command line.
        of_finished: options that are added where the default study is finished.
        quick: options that are added, and count, with ``--quick``.
        reads: files and folders of the default study that its options name; Snakemake makes what is missing.
        needs_finished: whether it is left out where the default study is not finished.
        needs_gpu: whether it is left out where PyTorch sees no GPU.
        beside: packages of other tools that it times too, where they are installed.
    """

    name: str
    title: str
    options: tuple[str, ...] = ()
    of_finished: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    needs_finished: bool = False
    needs_gpu: bool = False
    beside: tuple[str, ...] = ()


# verdict_errors.py, faults.py, fuzz.py, many_models.py and mutation.py measure no speed
BENCHMARKS = (
    Benchmark(
        name="extraction", title="Extraction", options=(MODEL, PROMPTS), quick=("--rounds", "1", "--sequences", "8"),
        reads=(MODEL, PROMPTS), beside=("transformer-lens", "nnsight"),
    ),
    Benchmark(
        name="interventions", title="Sweeps of interventions", options=(MODEL, PROMPTS), of_finished=("--statistics", STATISTICS),
        quick=("--rounds", "1", "--sequences", "8"), reads=(MODEL, PROMPTS), beside=("transformer-lens",),
    ),
    Benchmark(
        name="pretraining", title="Training", options=(TOKENS, TOKENIZER),
        quick=("--sizes", "default", "--rounds", "2", "--steps", "2"), reads=(TOKENS, TOKENIZER),
    ),
    Benchmark(name="paper_scale", title="Training on a GPU", quick=("--variants", "softmax"), needs_gpu=True),
    Benchmark(name="overhead", title="Orchestration by Snakemake", needs_finished=True),
    Benchmark(
        name="planning", title="Planning by Snakemake", of_finished=("--finished", "config.yaml"), quick=("--rounds", "1")
    ),
    Benchmark(
        name="memory", title="Memory", options=(MODEL, PROMPTS, TOKENS, TOKENIZER), quick=("--sides", "libraries", "forward", "extraction"),
        reads=(MODEL, PROMPTS, TOKENS, TOKENIZER),
    ),
    Benchmark(name="first_look", title="First look", reads=(MODEL,)),
    Benchmark(
        name="long_prompts", title="Long prompts", options=(MODEL, "--threads", "2"), quick=("--length", "2048"), reads=(MODEL,)
    ),
)  # fmt: skip


def vector_extensions(flags: str) -> str | None:
    """Those of a processor's flags that say how wide its arithmetic is; None if there are none."""
    return " ".join(sorted({flag for flag in flags.split() if _VECTORS.fullmatch(flag)})) or None


def machine(packages: Mapping[str, str | None]) -> dict:
    """What is measured on: processor, vector extensions, cores that this process may use, memory in GiB, and versions; no name of a host."""
    processor, extensions = platform.processor() or platform.machine(), None
    try:  # Linux
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        told = ""
    if found := re.search(r"^model name\s*:\s*(.+)$", told, re.MULTILINE):
        processor = found[1]
    if found := re.search(r"^(?:flags|Features)\s*:\s*(.+)$", told, re.MULTILINE):
        extensions = vector_extensions(found[1])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor,
        "vector extensions": extensions,
        "cores": cores,
        "memory, GiB": round(memory, 1),
        "Python": platform.python_version(),
        **packages,
    }


def asked(python: Path | str, program: str) -> str:
    """What an interpreter prints for a program."""
    return subprocess.run([str(python), "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def installed(python: Path | str) -> dict[str, str | None]:
    """Versions of ``PACKAGES`` in an interpreter's environment; None for what is not installed."""
    program = (
        "import importlib.metadata as m, json\n"
        f"names = {PACKAGES!r}\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions() if d.metadata['Name']}\n"
        "print(json.dumps({name: have.get(name) for name in names}))"
    )
    return json.loads(asked(python, program))


def gpu(python: Path | str) -> str | None:
    """Name of the GPU that PyTorch sees; None without one."""
    return (
        asked(python, "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')") or None
    )


def modules_of(name: str) -> set[str]:
    """A module of ``benchmarks/`` and those of this folder that it imports."""
    text = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    imported = re.findall(r"^(?:from|import) (\w+)\b", text, re.MULTILINE)
    beside = [one for one in imported if (ROOT / "benchmarks" / f"{one}.py").is_file()]
    return {name}.union(*map(modules_of, beside))


def code_version(name: str) -> str:
    """Twelve hex digits that change with the code that a benchmark runs: all of the workflow's and the library's."""
    files = [ROOT / "benchmarks" / f"{module}.py" for module in sorted(modules_of(name))] + [ROOT / "config.yaml"]
    for folder in ("src", "workflow_scripts", "rules"):
        files += [
            path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".py", ".smk", ".yaml", ".html")
        ]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def written(path: Path, content: object) -> None:
    """Write JSON under a temporary name and rename it."""
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def missing(benchmark: Benchmark, finished: bool, on_gpu: bool) -> str | None:
    """Why a benchmark cannot run here; None where it can."""
    if benchmark.needs_gpu and not on_gpu:
        return "PyTorch sees no GPU here"
    if benchmark.needs_finished and not finished:
        return "it needs the finished default study: run make reproduce, then this again"
    return None


def command(benchmark: Benchmark, python: Path | str, file: Path, *, finished: bool, quick: bool) -> list[str]:
    """Command line of a benchmark that writes its numbers into a file."""
    options = [
        *benchmark.options,
        *(benchmark.of_finished if finished else ()),
        *(benchmark.quick if quick else ()),
    ]
    return [str(python), str(ROOT / "benchmarks" / f"{benchmark.name}.py"), *options, "--json", str(file)]


def measure(benchmark: Benchmark, line: Sequence[str], folder: Path) -> str | None:
    """Run a benchmark, whose file of numbers gets its name when it is whole; the last line that it said if it failed."""
    log, partial = folder / f"{benchmark.name}.log", Path(line[-1])
    with log.open("w", encoding="utf-8") as said:
        done = subprocess.run(line, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
    if done.returncode:
        partial.unlink(missing_ok=True)
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with status {done.returncode} and said nothing"
    partial.replace(folder / f"{benchmark.name}.jsonl")
    return None


def run_all(
    benchmarks: Iterable[Benchmark],
    folder: Path,
    *,
    python: Path | str = sys.executable,
    beside: Path | str = sys.executable,
    quick: bool = False,
    again: bool = False,
    on_gpu: bool = False,
) -> list[str]:
    """Run benchmarks into a folder; the names of those that failed."""
    finished = (ROOT / FINISHED).is_file()
    record = folder / "runs.json"
    runs = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    failed = []
    for benchmark in benchmarks:
        name = benchmark.name
        line = command(
            benchmark, beside if benchmark.beside else python, folder / f"{name}.partial", finished=finished, quick=quick
        )  # fmt: skip
        shown = " ".join(["python", f"benchmarks/{name}.py", *line[2:-2]])
        given = {"command": shown, "code": code_version(name), "quick": quick}
        before = runs.get(name, {})
        there = (folder / f"{name}.jsonl").is_file() and before.get("outcome") == "measured"
        if there and not again and {key: before.get(key) for key in given} == given:
            print(f"{name}: measured already, on {before['date']}", flush=True)
            continue
        reason, began = missing(benchmark, finished, on_gpu), time.time()
        if reason is not None and there:  # measured with the study that was there then
            print(f"{name}: kept as it was measured on {before['date']}; {reason}", flush=True)
            continue
        date, outcome = f"{datetime.now(UTC):%Y-%m-%d %H:%M}", "left out"
        if reason is None:
            print(f"{name}: {shown}", flush=True)
            (folder / f"{name}.jsonl").unlink(missing_ok=True)  # of other code, or of another command
            reason = measure(benchmark, line, folder)
            outcome = "failed" if reason else "measured"
            failed += [name] if reason else []
        seconds = round(time.time() - began, 1)
        print(f"{name}: {outcome}, {reason}" if reason else f"{name}: {outcome} in {seconds:.0f} s", flush=True)
        runs[name] = {**given, "outcome": outcome, "reason": reason, "date": date, "seconds": seconds}
        written(record, runs)
    return failed


def known_machine(folder: Path, here: Mapping, again: bool) -> None:
    """Record the machine in a folder of numbers; end if the folder has those of another one."""
    path = folder / "machine.json"
    if path.is_file() and not again:
        there = json.loads(path.read_text(encoding="utf-8"))
        other = [f"{key}: {there.get(key)}, here {here[key]}" for key in here if there.get(key) != here[key]]
        if other:
            sys.exit(
                f"sinkorigin: {path.parent} holds numbers of another machine or environment ({'; '.join(other)}); "
                "remove it, measure all with --again, or give another folder with --folder"
            )
    written(path, dict(here))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"some of {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes, to see that it works")
    parser.add_argument("--again", action="store_true", help="measure what is measured already too")
    parser.add_argument("--folder", type=Path, help=f"for the numbers; {RESULTS}, with --quick {RESULTS / 'quick'}")
    parser.add_argument("--beside", type=Path, help=f"interpreter with TransformerLens and nnsight; {BESIDE} if there")
    arguments = parser.parse_args()
    own = ROOT / BESIDE
    beside = arguments.beside or (own if own.is_file() else Path(sys.executable))
    folder = (arguments.folder or ROOT / (RESULTS / "quick" if arguments.quick else RESULTS)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [benchmark for benchmark in BENCHMARKS if benchmark.name in (arguments.only or names)]
    packages = {**installed(beside), **{name: found for name, found in installed(sys.executable).items() if found}}
    device = gpu(sys.executable)
    known_machine(folder, {**machine(packages), "GPU": device}, arguments.again and not arguments.only)
    targets = sorted({one for benchmark in chosen for one in benchmark.reads if not (ROOT / one).exists()})
    if targets:
        print(f"making {', '.join(targets)}", flush=True)
        cores = str(os.cpu_count() or 1)
        reproduce = [sys.executable, str(ROOT / "workflow_scripts" / "reproduce.py"), "--cores", cores, *targets]
        subprocess.run(reproduce, cwd=ROOT, check=True)
    failed = run_all(
        chosen, folder, beside=beside, quick=arguments.quick, again=arguments.again, on_gpu=device is not None
    )
    if failed:
        sys.exit(
            f"sinkorigin: these benchmarks failed: {', '.join(failed)}; {folder} has their logs, {{name}}.log; the rest is measured"
        )


if __name__ == "__main__":
    main()
