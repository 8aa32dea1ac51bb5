"""The lock of a killed run is removed, and never that of a run that is alive or may be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import run_lock
from harness.run_lock import clear_killed

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"

# takes a lock as Snakemake does, notes it, and goes on until it is killed
RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from harness.run_lock import note_lock
files = [Path(sys.argv[2], name) for name in sys.argv[3:]]
for file in files:
    file.write_text("results/table.parquet\\n")
note_lock(files)
print("noted", flush=True)
time.sleep(60)
"""


@pytest.fixture
def locks(tmp_path):
    return tmp_path


@pytest.fixture
def start(locks):
    """Start a run that takes a lock of these files."""
    runs = []

    def start(*files):
        command = [sys.executable, "-c", RUN, str(SCRIPTS), str(locks), *files]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        runs.append(run)
        assert run.stdout.readline() == "noted\n"
        return run

    yield start
    for run in runs:
        run.kill()
        run.communicate()


def kill(run):
    run.kill()
    run.wait()


def names(locks):
    return sorted(path.name for path in locks.glob("*.lock"))


def test_a_directory_without_a_lock_is_free(locks):
    assert clear_killed(locks) == "nothing"
    assert clear_killed(locks / "nowhere") == "nothing"


def test_the_lock_of_a_killed_run_is_removed_with_its_note(start, locks):
    kill(start("0.input.lock", "0.output.lock"))
    assert clear_killed(locks) == "cleared"
    assert not list(locks.iterdir())
    assert clear_killed(locks) == "nothing"


def test_a_living_run_is_seen_by_every_later_start(start, locks):
    """A start that is refused leaves nothing behind that the next one could take for the run's."""
    start("0.input.lock", "0.output.lock")
    for _ in range(3):
        assert clear_killed(locks) == "alive"
    assert names(locks) == ["0.input.lock", "0.output.lock"]


def test_of_two_runs_on_different_files_only_the_killed_ones_lock_goes(start, locks):
    killed = start("0.output.lock")
    living = start("1.output.lock")
    kill(killed)
    assert clear_killed(locks) == "alive" and names(locks) == ["1.output.lock"]
    kill(living)
    assert clear_killed(locks) == "cleared" and names(locks) == []


def test_a_lock_that_took_the_name_of_a_killed_runs_is_left(start, locks):
    kill(start("0.output.lock"))
    (locks / "0.output.lock").unlink()
    (locks / "0.output.lock").write_text("results/table.parquet\n")  # of a run that is only beginning
    assert clear_killed(locks) == "unknown" and names(locks) == ["0.output.lock"]


def test_a_lock_without_a_note_is_left(start, locks):
    (locks / "0.output.lock").write_text("results/table.parquet\n")
    assert clear_killed(locks) == "unknown"
    kill(start("1.output.lock"))
    assert clear_killed(locks) == "unknown" and names(locks) == ["0.output.lock"]


def test_a_note_of_another_machine_is_believed_by_that_machine_only(start, locks, monkeypatch):
    kill(start("0.output.lock"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(run_lock.socket, "gethostname", lambda: "elsewhere")
        assert clear_killed(locks) == "unknown" and names(locks) == ["0.output.lock"]
    assert clear_killed(locks) == "cleared"


def test_a_process_that_got_the_number_of_a_killed_run_does_not_keep_its_lock(start, locks):
    kill(start("0.output.lock"))
    (note,) = locks.glob("*.run")
    note.rename(note.with_name(f"{run_lock.socket.gethostname()}-{os.getpid()}.run"))
    assert clear_killed(locks) == "cleared"


def test_a_note_that_was_cut_off_is_no_note(start, locks):
    kill(start("0.output.lock"))
    (note,) = locks.glob("*.run")
    note.write_text(note.read_text()[:10])
    assert clear_killed(locks) == "unknown" and names(locks) == ["0.output.lock"]


def test_only_one_of_two_starts_clears_a_lock(start, locks):
    """While one start removes the lock, the other takes the run for alive; afterwards it finds nothing to remove."""
    kill(start("0.output.lock"))
    (note,) = locks.glob("*.run")
    with note.open("r+") as held:
        run_lock.fcntl.flock(held, run_lock.fcntl.LOCK_EX)
        assert clear_killed(locks) == "alive"
    assert clear_killed(locks) == "cleared"


def test_a_run_without_a_lock_or_on_a_full_disk_goes_on_without_a_note(locks, monkeypatch):
    run_lock.note_lock([])
    (locks / "0.output.lock").write_text("results/table.parquet\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_lock.fcntl, "flock", full)
    run_lock.note_lock([locks / "0.output.lock"])
    assert names(locks) == ["0.output.lock"] and not list(locks.glob("*.run"))
    assert clear_killed(locks) == "unknown"


def test_the_command_names_the_way_out_of_a_lock_that_nobody_noted(tmp_path):
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/table.parquet\n")
    command = [sys.executable, SCRIPTS / "reproduce.py", "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and lock.exists()
    assert done.stderr.startswith(
        "sinkorigin: .snakemake/locks holds a lock that does not tell whether its run is alive"
    )
    assert done.stderr.endswith(f"run: {sys.executable} -m snakemake --unlock\n") and done.stderr.count("\n") == 1
