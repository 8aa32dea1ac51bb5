"""The frame of every workflow script: its log, errors of one sentence, and an end with the workflow that started it."""

import gc
import hashlib
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from harness.installation import wrong_library
from sinkorigin.errors import SinkoriginError
from sinkorigin.parent_processes import end_with_parents


def peak_memory() -> float:
    """Largest resident memory of this process until now, MB."""
    # Linux; ru_maxrss would begin there with that of the process that started this one
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def peak_gpu_memory() -> float:
    """Largest memory that PyTorch took of one GPU until now, MB; 0 where it took none."""
    torch = sys.modules.get("torch")  # not imported for this: most jobs have none
    if torch is None or not torch.cuda.is_initialized():
        return 0.0
    return max(torch.cuda.max_memory_reserved(device) for device in range(torch.cuda.device_count())) / 2**20


def gpus_used() -> str:
    """A line on the GPUs that PyTorch used in this process; "" where it used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    names = [torch.cuda.get_device_name(device) for device in range(torch.cuda.device_count())]
    return f"used GPU {', '.join(f'{names.count(name)} × {name}' for name in dict.fromkeys(names))}\n"


@dataclass(frozen=True)
class Record:
    """What a finished job took, which its log says in the last line.

    Attributes:
        seconds: from the start of the script's body to its end, imports included.
        memory, gpu_memory: peaks of the job's process, MB.
    """

    seconds: float
    memory: float
    gpu_memory: float

    def __str__(self) -> str:
        return f"{self.seconds:.3f} s; at most {self.memory:.0f} MB of memory and {self.gpu_memory:.0f} MB of a GPU"

    @classmethod
    def read(cls, log: str | Path) -> "Record | None":
        """The record of a job whose log this is; None where there is none."""
        pattern = r"^(\d+\.\d+) s; at most (\d+) MB of memory and (\d+) MB of a GPU$"
        text = Path(log).read_text(encoding="utf-8", errors="replace") if Path(log).is_file() else ""
        found = re.findall(pattern, text, re.MULTILINE)
        return cls(*map(float, found[-1])) if found else None


def beginning() -> str:
    """A line on when and on what a job began, without the name of the machine."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):  # Linux
        if found := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            processor = found[1]
    memory = ""
    with suppress(ValueError, OSError, AttributeError):
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GB"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} × {processor}{memory}"
    return f"began {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC on {machine}"


def fingerprint(params: Mapping[str, Any], inputs: Iterable[str]) -> str:
    """Sixteen hex digits that change with a job's parameters, its code among them, and with the names of its inputs."""
    given = repr((sorted(params.items()), sorted(map(str, inputs))))
    return hashlib.sha256(given.encode()).hexdigest()[:16]


def ran_with(log: str | Path, given: str) -> bool:
    """Whether a log is that of a job that ended well and was given what has this fingerprint."""
    if Record.read(log) is None:
        return False
    return f"given {given}" in Path(log).read_text(encoding="utf-8", errors="replace").splitlines()


def _verify_inputs(snakemake) -> None:
    """Verify what the job reads, but for inputs named ``local_files``, which are the user's, and ``pages``: figures and pages, whose
    hashes are in the logs of the jobs that made them. The script that reads them compares those.
    """
    # here, so that its imports are part of the job and their errors reach its log
    from harness.verification import verify_inputs

    named = [snakemake.input.get(name, []) for name in ("local_files", "pages")]
    foreign = [path for paths in named for path in ([paths] if isinstance(paths, str) else paths)]
    began = time.perf_counter()
    verify_inputs(snakemake.input, foreign, threads=snakemake.threads, unread=snakemake.params.get("unread"))
    print(f"inputs verified in {time.perf_counter() - began:.3f} s")


def _code_of(snakemake) -> str:
    """A line on the code that this job runs: its folder, relative if it lies below the working directory, and its version."""
    if sentence := wrong_library(snakemake.scriptdir):
        raise SinkoriginError(f"rule {snakemake.rule}: {sentence}")
    scripts, here = Path(snakemake.scriptdir).resolve(), Path.cwd().resolve()
    folder = scripts.relative_to(here) if scripts.is_relative_to(here) else scripts
    return f"code in {folder}, version {snakemake.params.get('code', 'not recorded')}"


def _pass_on(snakemake, module: str | None) -> bool:
    """Write outputs that say "not applicable" if an input does, with its reason; whether that was so.

    Only where the job is about one model on one prompt set: jobs that read several leave such inputs out.

    Args:
        module: module whose ``TABLES`` has the schema of each output that is a table; without, these have no columns.
    """
    if not hasattr(snakemake.wildcards, "prompts"):
        return False
    from sinkorigin.tables import SEALED, not_applicable, write_not_applicable

    reasons = [not_applicable(path) for path in snakemake.input if Path(path).suffix in SEALED]
    reason = next(filter(None, reasons), None)
    if reason is None:
        return False
    schemas = import_module(module).TABLES if module else {}
    for name, path in snakemake.output.items():
        if Path(path).suffix not in SEALED:  # a directory, whose manifest is an output too
            Path(path).mkdir(parents=True, exist_ok=True)
        elif Path(path).suffix == ".json":
            write_not_applicable(path, reason)
        else:
            write_not_applicable(path, reason, schemas.get(name))
    print(f"not applicable: {reason}")
    return True


@contextmanager
def job(snakemake, module: str | None = None) -> Iterator[None]:
    """Verify what a job reads and run its body: stdout and stderr go to its log, a user's mistake ends it with one sentence.

    Where an input of a model on a prompt set says that it is not applicable, the body does not run and the outputs say so
    too, see :func:`_pass_on` for ``module``.

    Anything that is not a :class:`SinkoriginError` is a defect of the program: its traceback goes to the log and the
    terminal names that log. The log begins with the code that the job ran and ends with its :class:`Record`. The terminal
    gets its sentence whatever becomes of the log, which may be what went wrong.
    """
    end_with_parents()
    terminal, log_path = sys.stderr, Path(str(snakemake.log[0]))

    def end(sentence: str) -> NoReturn:
        terminal.write(f"sinkorigin: {sentence}\n")
        terminal.flush()
        sys.exit(1)

    try:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        log = log_path.open("w", encoding="utf-8")
    except OSError as error:
        end(f"{log_path} cannot be written: {error.strerror}; fix this and run the same command again")

    def logged(text: str) -> bool:
        try:
            log.write(text)
            log.flush()
        except OSError:
            return False
        return True

    sys.stdout = sys.stderr = log
    began = time.perf_counter()
    try:
        print(_code_of(snakemake))
        print(f"given {fingerprint(dict(snakemake.params.items()), snakemake.input)}")
        print(beginning())
        _verify_inputs(snakemake)
        passed_on = _pass_on(snakemake, module)
        if not passed_on:
            yield
        from harness.verification import record_outputs

        print(record_outputs(snakemake.output), end="")
        print(gpus_used(), end="")
        print(Record(time.perf_counter() - began, peak_memory(), peak_gpu_memory()), flush=True)
        if passed_on:
            sys.exit(0)  # the body of a with statement cannot be left out otherwise
    except SinkoriginError as error:
        logged(f"sinkorigin: {error}\n")
        end(str(error))
    except OSError as error:
        what = error.filename or f"rule {snakemake.rule}"
        sentence = f"{what}: {error.strerror or error}; fix this and run the same command again"
        logged(f"sinkorigin: {sentence}\n{traceback.format_exc()}")
        end(sentence)
    except Exception as error:
        trace = traceback.format_exc().rstrip()
        where = f"the traceback is in {log_path}"
        if not logged(f"{trace}\n"):
            where = f"{log_path} cannot be written, so the traceback follows\n{trace}"
        end(f"rule {snakemake.rule} ended with an unexpected {type(error).__name__}: {error}; {where}")
    finally:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        gc.freeze()  # else Python looks for garbage in every imported module once more, a second after PyTorch and transformers
        with suppress(OSError):  # the sentence above covers it, unless the log alone failed
            log.close()
