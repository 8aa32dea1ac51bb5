"""One training on several processes of this machine, started by torchrun: a GPU each, or gloo on a CPU."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from sinkorigin.errors import SinkoriginError
from sinkorigin.parent_processes import end_with_parents
from sinkorigin.pretraining.loop import train
from sinkorigin.pretraining.settings import TrainingSettings
from sinkorigin.tables import record_inputs, recorded_inputs


def train_in_processes(processes: int, settings: TrainingSettings, *, threads: int = 1, **arguments: Any) -> None:
    """Train as :func:`sinkorigin.pretraining.loop.train` does, on several processes, each with its share of every batch.

    Args:
        processes: one needs no torchrun and is run here.
        threads: CPU threads of all processes together.

    Raises:
        SinkoriginError: what ``train`` raises, or a process ended without saying why.
    """
    if processes == 1:
        train(settings, threads=threads, **arguments)
        return
    arguments = {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()}
    arguments |= {"settings": asdict(settings), "threads": max(1, threads // processes)}
    given = {"arguments": arguments, "inputs": recorded_inputs()}
    library = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "arguments.json").write_text(json.dumps(given))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        with subprocess.Popen(
            [*torchrun, "-m", "sinkorigin.pretraining.processes", folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # torchrun warns where the number of threads is not set; train sets it again
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(arguments["threads"])},
        ) as group:
            for line in group.stdout:
                print(line, end="")
        for sentence in sorted(Path(folder).glob("error-*")):  # the first one to fail, torchrun ends the others
            raise SinkoriginError(sentence.read_text())
        if group.returncode:
            raise SinkoriginError(
                f"run {settings.name}: one of {processes} training processes ended with code {group.returncode}; "
                "see the log above this line, fix it and run the same command again"
            )


def _work(folder: Path) -> None:
    """Train as one process of the group, with the arguments in ``folder``."""
    end_with_parents()
    given = json.loads((folder / "arguments.json").read_text())
    arguments = given["arguments"]
    record_inputs(given["inputs"])
    rank = int(os.environ["RANK"])
    if arguments.get("device", "cpu") == "cpu":
        distributed.init_process_group("gloo")
    else:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl")
    try:
        train(TrainingSettings(**arguments.pop("settings")), **arguments)
    except SinkoriginError as error:
        (folder / f"error-{rank}").write_text(str(error))
        sys.exit(1)
    distributed.destroy_process_group()


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
