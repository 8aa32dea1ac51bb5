"""Whether what is installed is what the workflow needs: the sentences of this module come before any other import could fail.

It therefore imports nothing that another version of Snakemake or of the library may lack.
"""

import importlib.metadata
import sys
from pathlib import Path

import sinkorigin

TRIED = {"snakemake": ("9.27.1",), "snakemake-executor-plugin-slurm": ("2.8.0",)}
"""Package → its versions that ``snakemake_internals`` was tried with."""


def wrong_version(package: str) -> str | None:
    """A sentence if another version of a package of ``TRIED`` is installed than was tried, else None."""
    installed, tried = importlib.metadata.version(package), TRIED[package]
    if installed in tried:
        return None
    return (
        f"{package} {installed} is installed, but this workflow was tried with {' and '.join(tried)} only and reaches into its "
        f"internals; run {sys.executable} -m pip install -r requirements.lock"
    )


def wrong_library(scripts: str | Path) -> str | None:
    """A sentence if the library that was imported is not that of this checkout, and perhaps an older one; else None.

    Args:
        scripts: the folder of the workflow's scripts, beside which the library lies in ``src``.
    """
    scripts, file = Path(scripts).resolve(), getattr(sinkorigin, "__file__", None)
    imported = Path(file).resolve().parents[1] if file else None
    if imported == scripts.parent / "src":
        return None
    version = getattr(sinkorigin, "__version__", "of an unknown version")
    return (
        f"the workflow's scripts are in {scripts} and need the library of the same checkout, but sinkorigin {version} was "
        f"imported from {imported}; uninstall that ({sys.executable} -m pip uninstall sinkorigin), and get {scripts.parent}/src "
        "back if it is missing"
    )
