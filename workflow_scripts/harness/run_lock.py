"""Notes beside Snakemake's lock, by which the lock of a killed run is told from that of a living one.

Snakemake's lock on a directory is a few files that name nobody and that outlive a SIGKILL. So every run lays a note beside
its lock that says which files it is made of, and keeps the note under a lock of the operating system, which ends with the
process however that ends, and with no other process.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

LOCKS = Path(".snakemake/locks")
_open_notes: list = []  # of this process: a note counts for as long as it is open


def _identity(lock: Path) -> list[int]:
    """Facts that differ between a lock file and a later one of the same name."""
    facts = lock.stat()
    return [facts.st_ino, facts.st_mtime_ns]


def note_lock(lock_files: Iterable[str | Path]) -> None:
    """Write a note beside the lock files of this run, which counts until this process ends.

    Where it cannot be written, or the file system has no locks, there is no note, and nobody knows whose the lock is.
    """
    files = [Path(file) for file in lock_files]
    if not files:  # a run with --nolock
        return
    path = files[0].with_name(f"{socket.gethostname()}-{os.getpid()}.run")
    try:
        note = path.open("w")
        _open_notes.append(note)
        fcntl.flock(note, fcntl.LOCK_EX)
        locks = {file.name: _identity(file) for file in files}
        note.write(json.dumps({"host": socket.gethostname(), "locks": locks}))
        note.flush()
    except OSError:
        path.unlink(missing_ok=True)


def clear_killed(locks: Path = LOCKS) -> Literal["nothing", "cleared", "alive", "unknown"]:
    """Remove the locks of runs that were killed on this machine, and no other lock.

    Returns:
        What was found: nothing; only what was cleared; a run that is alive; or a lock without a note, or with one of another
        machine, of which nobody can say whether its run is alive.
    """
    cleared = alive = False
    for path in sorted(locks.glob("*.run")):
        try:
            with path.open("r+") as note:  # some file systems lock only what may be written
                fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the lock is removed: one start does that
                facts = json.load(note)
                if facts["host"] != socket.gethostname():  # whose file locks may not be seen here
                    continue
                for name, identity in facts["locks"].items():
                    if (locks / name).exists() and _identity(locks / name) == identity:
                        (locks / name).unlink()
                path.unlink()
                cleared = True
        except BlockingIOError:
            alive = True
        except (OSError, ValueError, KeyError, TypeError):  # ended meanwhile, or killed while it wrote the note
            continue
    if alive:
        return "alive"
    if any(locks.glob("*.lock")):
        return "unknown"
    return "cleared" if cleared else "nothing"
