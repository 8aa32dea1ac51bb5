"""A workflow script on what it would see of Snakemake, without Snakemake."""

import runpy
from pathlib import Path
from types import SimpleNamespace

from snakemake.iocontainers import InputFiles, OutputFiles, Wildcards

from sinkorigin.tables import write_json

SCRIPTS = Path(__file__).parents[1] / "workflow_scripts"


class Parameters(dict):
    __getattr__ = dict.__getitem__


def _named(files, by_name):
    """Files as a rule names them, one or a list under each name."""
    for name, paths in by_name.items():
        many = isinstance(paths, list)
        start = len(files)
        files.extend(map(str, paths if many else [paths]))
        files._set_name(name, start, end=len(files) if many else None)
    return files


def seen_by_a_script(log, *, inputs=(), outputs=(), params=(), scripts=SCRIPTS, **wildcards) -> SimpleNamespace:
    """What a script sees whose log this is."""
    return SimpleNamespace(
        log=[log], rule="a_rule", scriptdir=str(scripts), threads=1,
        input=_named(InputFiles(), dict(inputs)), output=_named(OutputFiles(), dict(outputs)),
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
