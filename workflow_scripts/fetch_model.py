"""Bring one model to results/models/: download or copy, check, convert, and note where it came from."""

import shutil
from pathlib import Path

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.sources import fetch_model

    base = snakemake.input.get("base")
    fetch_model(snakemake.output.files, base=base and Path(base).parent, **snakemake.params.model)
    shutil.copyfile(Path(snakemake.output.files, "provenance.json"), snakemake.output.provenance)
