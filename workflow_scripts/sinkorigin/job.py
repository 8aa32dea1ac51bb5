"""What every workflow script needs around its work: the log, one-sentence errors, and no life after the workflow."""

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sinkorigin.errors import SinkoriginError

_SHELLS = {"sh", "bash", "dash", "zsh", "ksh"}


def end_with_parents(interval: float = 1.0) -> None:
    """End this process when the workflow that started it is gone (it was killed), so that no orphan keeps writing.

    Snakemake starts a script through a shell, which may stay between the two or give way to the script. So a second
    generation is watched only where the first is a shell: else it is whatever started the workflow, and a workflow may
    outlive that (``nohup``, a closed terminal).
    """
    import psutil

    with suppress(psutil.Error):
        parents = psutil.Process().parents()[:2]
        if parents and parents[0].name() not in _SHELLS:
            parents = parents[:1]

        def watch() -> None:
            while all(parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE for parent in parents):
                time.sleep(interval)
            os._exit(143)

        threading.Thread(target=watch, name="end-with-parents", daemon=True).start()


class _Tee:
    """Writes to the log and to the terminal."""

    def __init__(self, *streams):
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
            stream.flush()
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def isatty(self) -> bool:
        return False


@contextmanager
def job(snakemake) -> Iterator[None]:
    """Run a script's body: stdout and stderr go to the rule's log, a user's mistake ends it with one sentence.

    Anything that is not a :class:`SinkoriginError` is a defect of the program: its traceback goes to the log and the
    terminal names that log.
    """
    end_with_parents()
    terminal = sys.stderr
    log_path = Path(str(snakemake.log[0]))
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("w") as log:
        sys.stdout = sys.stderr = log
        try:
            yield
        except SinkoriginError as error:
            _Tee(log, terminal).write(f"sinkorigin: {error}\n")
            sys.exit(1)
        except OSError as error:
            _Tee(log, terminal).write(
                f"sinkorigin: {error.filename or snakemake.rule}: {error.strerror or error}; "
                f"mend this and run the same command again\n"
            )
            traceback.print_exc(file=log)
            sys.exit(1)
        except Exception as error:
            traceback.print_exc(file=log)
            terminal.write(
                f"sinkorigin: rule {snakemake.rule} ended with an unexpected {type(error).__name__}: {error}; "
                f"the traceback is in {log_path}\n"
            )
            sys.exit(1)
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
