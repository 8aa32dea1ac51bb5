"""What every workflow script needs around its work: the log, one-sentence errors, and no life after the workflow."""

import builtins
import gc
import importlib
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import sinkorigin
from harness.deferred import unused_imports_deferred
from sinkorigin.errors import SinkoriginError
from sinkorigin.parent_processes import end_with_parents


class _Imports:
    """The imports of this thread, those inside functions included: how long they take, and without garbage collection.

    Importing PyTorch and transformers makes a million objects that live as long as the process. Looking through them for
    garbage again and again, and once more when the process ends, is a third of what such a job pays for its imports.
    """

    def __init__(self):
        self.seconds = 0.0
        self._thread, self._depth = threading.get_ident(), 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the imports of this context."""
        originals = builtins.__import__, importlib.import_module
        builtins.__import__ = self._counting(originals[0])
        importlib.import_module = self._counting(originals[1])
        try:
            yield
        finally:
            builtins.__import__, importlib.import_module = originals

    def _counting(self, load: Callable) -> Callable:
        def counting(*args, **kwargs):
            if self._depth or threading.get_ident() != self._thread:  # counted by the import that this one is part of
                return load(*args, **kwargs)
            self._depth, began, modules = 1, time.perf_counter(), len(sys.modules)
            gc.disable()
            try:
                return load(*args, **kwargs)
            finally:
                gc.enable()
                if len(sys.modules) > modules:
                    gc.freeze()  # what was imported is never garbage
                self._depth = 0
                self.seconds += time.perf_counter() - began

        return counting


def peak_memory() -> float:
    """Largest resident memory of this process until now, MB."""
    status = Path(
        "/proc/self/status"
    )  # Linux; ru_maxrss would begin there with that of the process that started this one
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


@dataclass(frozen=True)
class Record:
    """What a finished job says of itself in the last line of its log.

    Attributes:
        work: seconds in the script's body, without imports.
        imports: seconds in imports.
        memory, gpu_memory: peaks of the job's own process, MB.
    """

    work: float
    imports: float
    memory: float
    gpu_memory: float

    def __str__(self) -> str:
        return (
            f"{self.work:.3f} s of work and {self.imports:.3f} s of imports; at most {self.memory:.0f} MB of memory and "
            f"{self.gpu_memory:.0f} MB of a GPU"
        )

    @classmethod
    def read(cls, log: str | Path) -> "Record | None":
        """The record of a job whose log this is; None where there is none."""
        number = r"([\d.]+)"
        pattern = (
            f"{number} s of work and {number} s of imports; at most {number} MB of memory and {number} MB of a GPU"
        )
        found = re.findall(pattern, Path(log).read_text(encoding="utf-8")) if Path(log).is_file() else []
        return cls(*map(float, found[-1])) if found else None


def _verify_inputs(snakemake) -> None:
    """Verify what the job reads; inputs named ``local_files`` are the user's own."""
    from harness.verification import verify_inputs  # not above: imports are counted inside the job

    foreign = snakemake.input.get("local_files", [])
    began = time.perf_counter()
    verify_inputs(
        snakemake.input,
        [foreign] if isinstance(foreign, str) else foreign,
        threads=snakemake.threads,
        unread=snakemake.params.get("unread"),
    )
    print(f"inputs verified in {time.perf_counter() - began:.3f} s")


def _code_of(snakemake) -> str:
    """Which code this job runs: its folder, from the working directory where it lies below, and the version that its rule has.

    Raises:
        SinkoriginError: the library that was imported is not the one beside the script.
    """
    scripts, imported = Path(snakemake.scriptdir).resolve(), Path(sinkorigin.__file__).resolve().parents[1]
    if imported != scripts.parent / "src":
        raise SinkoriginError(
            f"rule {snakemake.rule}: its script is in {scripts}, but sinkorigin {sinkorigin.__version__} was imported from "
            f"{imported}; uninstall that ({sys.executable} -m pip uninstall sinkorigin) and run the same command again"
        )
    here = Path.cwd().resolve()
    folder = scripts.relative_to(here) if scripts.is_relative_to(here) else scripts
    return f"code in {folder}, version {snakemake.params.get('code', 'not recorded')}"


@contextmanager
def job(snakemake) -> Iterator[None]:
    """Run a script's body: stdout and stderr go to the rule's log, a user's mistake ends it with one sentence.

    What the job reads is verified first.

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
    began, imports = time.perf_counter(), _Imports()
    try:
        print(_code_of(snakemake))
        with imports.watched(), unused_imports_deferred():
            _verify_inputs(snakemake)
            yield
            from harness.verification import record_outputs

            print(record_outputs(snakemake.output), end="")
        work = time.perf_counter() - began - imports.seconds
        print(Record(work, imports.seconds, peak_memory(), peak_gpu_memory()), flush=True)
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
        with suppress(OSError):  # the sentence above covers it, unless the log alone failed
            log.close()
