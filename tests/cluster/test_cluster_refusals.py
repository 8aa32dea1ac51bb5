"""What Slurm could not run is told before any job, with one sentence."""

import re
import subprocess

import pytest

from harness.cluster import check_requests, check_slurm
from local_slurm import fill_in, snakemake
from sinkorigin.errors import SinkoriginError


def refusal(project, environment, *arguments):
    """What snakemake says of a target that needs a GPU."""
    target = "results/tiny/attention/tiny/random_tokens/scores.parquet"
    done = subprocess.run(
        snakemake(target, *arguments), cwd=project.folder, env=environment, capture_output=True, text=True
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said, said
    assert not (project.folder / "results").exists()
    return " ".join(said.split())


@pytest.fixture
def project(fresh, tmp_path):
    return fresh.copy(tmp_path / "project")


def test_a_profile_without_partition_where_there_is_no_default(slurm, project):
    fill_in(project.folder, partition=None)
    assert (
        "sinkorigin: rule extract_activations: Slurm refuses its request: No partition specified or system default "
        "partition; set slurm_partition in the profile to one that sinfo lists"
    ) in refusal(project, slurm.environment())


def test_a_gpu_that_no_node_has(slurm, project):
    fill_in(project.folder, gpu_model="a100")
    assert (
        "sinkorigin: rule extract_activations: Slurm refuses its request: no node has the a100:1 GPU that it asks for; set "
        "gpu_model or slurm_partition of this rule in the profile (sinfo -o '%P %G' lists what there is), or device to cpu"
    ) in refusal(project, slurm.environment())


def test_a_device_that_this_machine_would_decide_for_the_nodes(slurm, project):
    fill_in(project.folder)
    assert (
        "device is auto, which this machine would decide for the nodes; set it to cuda or cpu, in the profile or with "
        "--config device=cuda"
    ) in refusal(project, slurm.environment(), "--config", "device=auto")


@pytest.fixture
def client(slurm, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))


@pytest.mark.parametrize(
    "request_, sentence",
    [
        ("-p batch", "jobs need an account here; .*; set slurm_account in default-resources of the profile to one"),
        ("-p gpus -A project", "invalid partition specified: gpus; .*; set slurm_partition in the profile to one"),
        ("-p batch -A project --gpus=3", "no node has the 3 GPU that it asks for; set gpu_model or slurm_partition"),
        ("-p batch -A project --mem 900000 --gpus=1", "Requested node configuration is not available .*; correct the res"),
    ],
)  # fmt: skip
def test_a_request_that_slurm_refuses_is_told_with_its_rule(client, request_, sentence):
    with pytest.raises(SinkoriginError, match=f"^rule variance: Slurm refuses its request: {sentence}"):
        check_requests({"sbatch -p batch -A project": "norms", f"sbatch {request_}": "variance"})


def test_an_accounting_that_is_off_cannot_watch_jobs(client):
    check_slurm("squeue")
    with pytest.raises(
        SinkoriginError, match=r"^sacct: .*storage is disabled.*; set slurm-status-command of the profile"
    ):
        check_slurm("sacct")


def test_a_controller_that_does_not_answer(slurm, tmp_path, monkeypatch):
    config = tmp_path / "slurm.conf"
    text = re.sub("SlurmctldPort=.*", "SlurmctldPort=9", slurm.config.read_text())
    config.write_text(text.replace("MessageTimeout=10", "MessageTimeout=2"))
    monkeypatch.setenv("SLURM_CONF", str(config))
    with pytest.raises(SinkoriginError, match=r"^sinfo: Slurm does not answer \(.*Unable to contact slurm controller"):
        check_slurm("squeue")


def test_a_machine_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SinkoriginError, match="^sinfo: this machine has no such command; run snakemake where Slurm is"):
        check_slurm("squeue")
