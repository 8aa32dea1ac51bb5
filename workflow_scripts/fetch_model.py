"""Fetch one model to results/models/: download or copy, check, convert, and record where it came from."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    import json

    from sinkorigin.models.fetching import fetch_model
    from sinkorigin.tables import write_json

    base = snakemake.input.get("base")
    fetch_model(snakemake.output.files, base=base and Path(base).parent, **snakemake.params.model)
    # beside the model, so that jobs that read it alone need not be brought the model's directory
    provenance = json.loads(Path(snakemake.output.files, "provenance.json").read_text())
    write_json(snakemake.output.provenance, {**provenance, "config": snakemake.params.model})
