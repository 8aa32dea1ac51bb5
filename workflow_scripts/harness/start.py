"""What is read and checked at the start of every run, before any rule."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.reading import read_config
from harness.config.study import Config
from harness.config.yaml_checks import check_written
from sinkorigin.models.shapes import check_local_model


def read_study(config: Mapping[str, Any], files: Sequence[str | Path], *, first: bool) -> Config:
    """Read and check the config, and look into what it names on this machine.

    Args:
        config: Snakemake's, merged from the files and the command line.
        files: config files of the command line, for messages.
        first: whether this is the process that the user started. Jobs have what their run began with, whatever became of the
            files, and check nothing again.

    Raises:
        SinkoriginError: the first thing that is wrong.
    """
    names = ", ".join(map(str, files)) or "config.yaml"
    if first:
        for file in map(Path, ["config.yaml", *files]):
            if file.is_file():
                check_written(file)
    study = read_config(config, names, base=Path.cwd())
    if first:
        _check_local_models(study)
        _check_local_corpora(study, names)
    return study


def _check_local_models(study: Config) -> None:
    """Check that no prompt is longer than the positions that a model on this machine has learned."""
    for model in study.models:
        if model.kind == "path":
            place = model.source.partition(":")[2]
            check_local_model(place, {prompts.name: prompts.length for prompts in study.prompts}, model=model.name)


def _check_local_corpora(study: Config, files: str) -> None:
    """Look into the corpora on this machine."""
    for key, corpus in study.corpora.items():
        if corpus.source.startswith("path:"):
            # here, because it imports pyarrow, for which other studies need not wait
            from sinkorigin.corpora.fetching import check_local_corpus

            check_local_corpus(f"{files}: {key}", **corpus.model_dump(include={"source", "members", "column"}))
