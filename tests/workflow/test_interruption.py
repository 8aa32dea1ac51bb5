"""A run that is stopped in the middle, however it is stopped, is finished by the same command, with the same tables."""

import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from tiny_study import digests, wait_until

TARGET = "results/tiny/pretraining/softmax/seed=0/history.parquet"
LOG = "logs/pretrain_with_checkpoints/softmax/seed=0.log"


@pytest.fixture
def untrained(study):
    """The finished study without one training, which is what a run has to do."""
    shutil.rmtree((study.folder / TARGET).parent)
    (study.results / LOG).unlink()
    return study


def start(project, *program):
    """The command that clears the lock of a killed run first, or another program, with the same arguments."""
    program = program or ("workflow_scripts/reproduce.py",)
    command = [sys.executable, *program, "--configfile", "tiny.yaml", "--cores", "2", TARGET]
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def scripts_of(project):
    """Processes that work for this checkout."""
    found = []
    for process in psutil.process_iter(["cwd", "pid"]):
        if process.info["cwd"] == str(project.folder) and process.info["pid"] != os.getpid():
            found.append(process)
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_is_finished_by_the_same_command(finished, untrained, how):
    project = untrained
    run = start(project)
    assert wait_until((project.results / LOG).exists, 120), "training did not start"
    run.send_signal(how)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert wait_until(lambda: not scripts_of(project), 10), "an orphan keeps working"
    # a job that was asked to stop may still have finished; one that was killed has not
    assert how != signal.SIGKILL or not (project.folder / TARGET).exists()
    again = start(project)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert ("clearing its lock" in said) == (how == signal.SIGKILL)
    found, reference = (
        {name: digest for name, digest in digests(study.results).items() if "timing" not in name}
        for study in (project, finished)
    )
    assert found == reference


def test_a_run_outlives_the_shell_that_started_it(untrained):
    project = untrained
    command = f"nohup {sys.executable} -m snakemake --configfile tiny.yaml --cores 2 {TARGET} > said 2>&1 &"
    subprocess.run(["bash", "-c", command], cwd=project.folder, env=project.environment(), check=True)
    assert wait_until(lambda: (project.folder / TARGET).exists() or not scripts_of(project), 200)
    wait_until(lambda: not scripts_of(project), 60)
    assert (project.folder / TARGET).exists(), (project.folder / "said").read_text()


def test_every_start_beside_a_living_run_is_refused(untrained):
    project = untrained
    run = start(project, "-m", "snakemake")  # a plain run is recognised like one by this command
    locks = project.folder / ".snakemake/locks"
    assert wait_until(lambda: any(locks.glob("*.run")), 60)
    for _ in range(2):
        another = start(project)
        said, _ = another.communicate(timeout=60)
        assert another.returncode != 0
        assert "another run is going on in this directory; wait for it or stop it" in said
    assert any(locks.glob("*.lock")) and run.poll() is None
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    assert not any(locks.glob("*")), "the note goes with the lock"
