"""A Slurm of one node on loopback, in a directory of its own: munged, slurmctld and slurmd, with a declared GPU.

And the profile as a site fills it in."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tiny_study import ROOT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")

# More than this machine has, so that every rule's request fits. The GPUs are names only: jobs compute on the CPU. A job whose
# node was lost waits for as long as credentials last (cred_expire) until it may start again.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
GresTypes=gpu
ReturnToService=2
KillWait=1
SchedulerParameters=sched_interval=1,bf_interval=1
JobSubmitPlugins=lua
MessageTimeout=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000 Gres=gpu:toy:2
PartitionName=batch Nodes={host} Default=NO MaxTime=INFINITE
"""

# As many sites do: no job without an account.
DEMAND_ACCOUNT = """
function slurm_job_submit(job, partitions, user)
  if job.account == nil then
    slurm.log_user("jobs need an account here")
    return slurm.ESLURM_INVALID_ACCOUNT
  end
  return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, user)
  return slurm.SUCCESS
end
return slurm.SUCCESS
"""


def missing() -> list[str]:
    """Programs of Slurm that are not installed here."""
    return [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class LocalSlurm:
    """Starts on entry, and on exit stops what it started."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.config = folder / "slurm.conf"
        self._daemons: dict[str, subprocess.Popen] = {}
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        self.controller_port, node_port = free_ports(2)
        self.config.write_text(
            CONFIG.format(folder=folder, host=self.host, controller_port=self.controller_port, node_port=node_port)
        )
        (folder / "gres.conf").write_text("Name=gpu Type=toy File=/dev/null\nName=gpu Type=toy File=/dev/zero\n")
        (folder / "job_submit.lua").write_text(DEMAND_ACCOUNT)
        # the plugin clears SLURM_CONF for srun, which a site keeps where srun looks for it
        (folder / "bin").mkdir()
        srun = folder / "bin/srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.config} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)

    def environment(self) -> dict:
        """For Slurm's programs, and for snakemake."""
        own = [str(self.folder / "bin"), str(Path(sys.executable).parent)]
        path = os.pathsep.join([*own, os.environ["PATH"], "/usr/sbin", "/sbin"])
        return {**os.environ, "PATH": path, "SLURM_CONF": str(self.config), "COLUMNS": "400", "NO_COLOR": "1"}

    def __enter__(self):
        try:
            munge = [f"--{name}-file={self.folder}/munged.{name}" for name in ("pid", "log", "seed")]
            munge += [f"--key-file={self.folder}/munge.key", f"--socket={self.folder}/munge.socket", "--force"]
            self._start("munged", "--foreground", *munge)
            self._wait_for(lambda: (self.folder / "munge.socket").exists(), "munged")
            self._start("slurmctld", "-D", "-c", "-i")
            self._wait_for(lambda: self.ask("scontrol", "ping").returncode == 0, "slurmctld")
            self.start_node()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _start(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("a") as out:
            self._daemons[program] = subprocess.Popen(
                [program, *arguments], env=self.environment(), stdout=out, stderr=out, start_new_session=True
            )

    def start_node(self) -> None:
        self._start("slurmd", "-D")
        self._wait_for(lambda: self.node_state() == "idle", "slurmd")

    def lose_node(self) -> None:
        """The node's daemon is gone from one moment to the next, and the controller notices."""
        self._end("slurmd", signal.SIGKILL)
        self.do("scontrol", "update", f"nodename={self.host}", "state=down", "reason=lost")

    def node_state(self) -> str:
        return self.ask("sinfo", "--noheader", "--format=%T").stdout.strip()

    def ask(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True)

    def do(self, *command: str) -> str:
        done = self.ask(*command)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """The controller's records of all jobs, ended ones too."""
        records = self.do("scontrol", "show", "job", "--oneliner").splitlines()
        return [
            dict(part.split("=", 1) for part in record.split() if "=" in part)
            for record in records
            if record.startswith("JobId=")
        ]

    def _wait_for(self, condition, what: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                said = "".join(
                    path.read_text() for path in self.folder.glob(f"{what}.*") if path.suffix in {".out", ".log"}
                )
                raise AssertionError(f"{what} did not come up:\n{said}")
            time.sleep(0.1)

    def _end(self, program: str, how: int = signal.SIGTERM) -> None:
        daemon = self._daemons.pop(program, None)
        if daemon:
            daemon.send_signal(how)
            daemon.wait(timeout=30)

    def stop(self) -> None:
        if "slurmctld" in self._daemons:
            # the daemons go only when no job is left that they would have to end
            self.ask("scancel", "--user=root")
            with suppress(AssertionError):
                self._wait_for(lambda: not self.ask("squeue", "--noheader").stdout.strip(), "squeue")
        for program in ("slurmd", "slurmctld", "munged"):
            self._end(program)


def fill_in(folder: Path, partition="batch", account="project", gpu_model="toy", device="cpu") -> None:
    """Take the # away from the site's lines of profiles/slurm, as its first lines say. None leaves a line as it is."""
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    if partition:
        text = text.replace("  # slurm_partition: cpu", f"  slurm_partition: {partition}")
    if account:
        text = text.replace("  # slurm_account: project", f"  slurm_account: {account}")
    rules, count = re.subn("^# (set-resources:|  [a-z_]+: [&*]gpu)", r"\1", text, flags=re.MULTILINE)
    assert count > 5
    # a study on the CPU asks for a GPU here, so that there is a request to see
    rules = rules.replace("{slurm_partition: gpu, gpu_model: a100}", f"{{gpu: 1, gpu_model: {gpu_model}}}")
    rules = rules.replace("  device: cuda", f"  device: {device}")
    rules = rules.replace("slurm-status-command: sacct", "slurm-status-command: squeue")
    (folder / "profiles/slurm/config.yaml").write_text(rules)


def snakemake(*arguments) -> list[str]:
    """The command of docs/cluster.md for the tiny study, with jobs looked after more often."""
    often = ["--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"]
    own = ["--profile", "profiles/slurm", "--configfile", "tiny.yaml", *often]
    return [sys.executable, "-m", "snakemake", *own, *map(str, arguments)]
