"""``snakemake`` with this command line, after clearing the lock of a run that was killed.

Snakemake's lock outlives a SIGKILL. A lock is removed only if the run that took it is known to be over, see
``harness/run_lock.py``; any other is left alone.
"""

import os
import sys
import time
from pathlib import Path

from harness.run_lock import LOCKS, clear_killed


def main() -> None:
    found = clear_killed()
    if found == "alive":
        sys.exit("sinkorigin: another run is going on in this directory; wait for it or stop it")
    if found == "unknown":
        sys.exit(
            f"sinkorigin: {LOCKS} holds a lock that does not tell whether its run is alive (it is of another machine, or "
            f"its run is only beginning or was killed as it began); if no run is going on in this directory, run: "
            f"{sys.executable} -m snakemake --unlock"
        )
    if found == "cleared":
        print("sinkorigin: the last run was killed; clearing its lock and going on", file=sys.stderr)
        time.sleep(2)  # its scripts look for their parent every second and end without it
    # scripts are started as "python": that of this environment, whether it is activated or not
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # replaces this process, so that signals reach Snakemake itself
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *sys.argv[1:]])


if __name__ == "__main__":
    main()
