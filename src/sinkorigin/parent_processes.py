"""The end of a process whose parents are gone."""

import os
import threading
import time
from contextlib import suppress

_SHELLS = {"sh", "bash", "dash", "zsh", "ksh"}


def end_with_parents(interval: float = 1.0) -> None:
    """End this process when the workflow that started it is gone (it was killed), so that no orphan keeps writing.

    Snakemake starts a script through a shell, which may stay between the two or give way to the script. So a second
    generation is watched only where the first is a shell: otherwise it is whatever started the workflow, and a workflow may
    outlive that (``nohup``, a closed terminal).

    Args:
        interval: seconds between two looks.
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
