"""Runs in forks of one server for all processes of the tests, see ``forked_python.py``."""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import forked_python

# what Snakemake and the jobs of a study import of other packages
MODULES = (
    "snakemake.cli", "snakemake.dag", "snakemake.script", "packaging.requirements", "pydantic", "psutil",
    "torch", "transformers.models.llama.modeling_llama", "transformers.generation", "accelerate", "safetensors.torch", "tokenizers",
    "polars", "pyarrow.parquet", "scipy.stats", "seaborn", "matplotlib.backends.backend_svg", "jinja2", "altair",
)  # fmt: skip
_ADDRESS = "FORKED_PYTHON"  # variable: the server's socket


class Server:
    """A server for this process and for all that it starts.

    Attributes:
        python: the program to start in place of Python, whose work a fork does.
    """

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="forks")  # the path of a socket has at most 107 characters
        os.environ[_ADDRESS] = address = f"{self._folder.name}/socket"
        program = shlex.join([sys.executable, "-I", "-S", forked_python.__file__, "ask", address])
        self.python = Path(self._folder.name, "python")
        self.python.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        self.python.chmod(0o755)
        command = [sys.executable, "-I", forked_python.__file__, "serve", address, self.python, *MODULES]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        while not os.path.exists(address):
            assert self._process.poll() is None, f"{command} ended with {self._process.returncode}"
            time.sleep(0.02)

    def end(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._folder.cleanup()
        del os.environ[_ADDRESS]


def snakemake(arguments: list[str], folder, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """What ``subprocess.run`` of ``python -m snakemake`` would give, with its output captured; it and its jobs are forks."""
    arguments = ["-m", "snakemake", *arguments]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as error, open(os.devnull) as nothing:
        streams = [nothing.fileno(), out.fileno(), error.fileno()]
        status = forked_python.ask(os.environ[_ADDRESS], arguments, os.fspath(folder), environment, streams)
        for file in (out, error):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, status, out.read(), error.read())
