"""Ending a process whose parents are gone."""

import os
import threading
import time
from contextlib import suppress

_SHELLS = {"sh", "bash", "dash", "zsh", "ksh"}


def end_with_parents(interval: float = 1.0) -> None:
    """End this process when the process that started it was killed, so that no orphan keeps writing.

    A job's script is started through a shell, which may stay between the two or be replaced by the script. So the
    grandparent is watched only where the parent is a shell: otherwise it is whatever started the workflow, which a workflow
    may outlive (``nohup``, a closed terminal).

    Args:
        interval: seconds between two checks.
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
