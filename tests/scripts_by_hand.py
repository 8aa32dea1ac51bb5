"""A workflow script on what it would see of Snakemake, without Snakemake."""

import runpy
from pathlib import Path
from types import SimpleNamespace

from snakemake.iocontainers import InputFiles, OutputFiles, Wildcards

from sinkorigin.tables import write_json

SCRIPTS = Path(__file__).parents[1] / "workflow_scripts"


class Parameters(dict):
    __getattr__ = dict.__getitem__


def seen_by_a_script(log, *, inputs=(), outputs=(), params=(), scripts=SCRIPTS, **wildcards) -> SimpleNamespace:
    """What a script sees whose log this is."""

    def texts(files):
        return {name: [*map(str, path)] if isinstance(path, list) else str(path) for name, path in dict(files).items()}

    return SimpleNamespace(
        log=[log], rule="a_rule", scriptdir=str(scripts), threads=1,
        input=InputFiles(fromdict=texts(inputs)),
        output=OutputFiles(fromdict=texts(outputs)),
        wildcards=Wildcards(fromdict=wildcards), params=Parameters({"code": "0123456789abcdef", **dict(params)}),
        resources=Parameters({"device": "cpu", "gpu": 0}),
    )  # fmt: skip


def run_script(script: str, folder, **seen) -> None:
    """Run a workflow script whose log is ``job.log`` in ``folder``, see :func:`seen_by_a_script`."""
    runpy.run_path(str(SCRIPTS / script), {"snakemake": seen_by_a_script(folder / "job.log", **seen)})


def write_empty_manifest(directory: Path) -> Path:
    """A directory that holds nothing, and says so."""
    directory.mkdir(parents=True)
    write_json(directory / "manifest.json", {"files": {}})
    return directory / "manifest.json"
