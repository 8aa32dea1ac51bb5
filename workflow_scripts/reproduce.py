"""``snakemake`` with this command line, after clearing the lock of a run that was killed.

Snakemake's lock outlives a SIGKILL. This start notes its host, process and start time; when the next one finds a lock
and that process gone, the lock is dead and is removed. A lock it did not note itself is left alone.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

LOCKS = Path(".snakemake/locks")
NOTE = Path(".snakemake/running.json")


def _identity(process: psutil.Process) -> dict:
    return {"host": socket.gethostname(), "pid": process.pid, "started": process.create_time()}


def _holder() -> str:
    """Who holds the lock: "nobody", "dead", "alive" or "unknown"."""
    if not LOCKS.is_dir() or not any(LOCKS.iterdir()):
        return "nobody"
    try:
        note = json.loads(NOTE.read_text())
    except (OSError, ValueError):
        return "unknown"
    if note["host"] != socket.gethostname():
        return "unknown"
    try:
        return "alive" if _identity(psutil.Process(note["pid"])) == note else "dead"
    except psutil.NoSuchProcess:
        return "dead"


def main() -> None:
    holder = _holder()
    if holder == "alive":
        sys.exit("sinkorigin: another run is going on in this directory; wait for it or stop it")
    if holder == "unknown":
        sys.exit(
            "sinkorigin: .snakemake/locks holds the lock of a run that this command did not start; "
            "if it is over, run: snakemake --unlock"
        )
    if holder == "dead":
        print("sinkorigin: the last run was killed; clearing its lock and going on", file=sys.stderr)
        time.sleep(2)  # its scripts look for their parent every second and end without it
        subprocess.run([sys.executable, "-m", "snakemake", "--unlock"], check=True, capture_output=True)
    NOTE.parent.mkdir(exist_ok=True)
    NOTE.write_text(json.dumps(_identity(psutil.Process())))
    # scripts are started as "python": that of this environment, whether it is activated or not
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # replaces this process, so that the noted one is Snakemake itself and signals reach it
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])


if __name__ == "__main__":
    main()
