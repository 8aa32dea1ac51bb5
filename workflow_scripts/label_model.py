"""Add to a model's provenance what this study calls the model, and its licence."""

from harness.job import job

with job(snakemake):
    from sinkorigin.tables import read_json, write_json

    names = {"label": snakemake.params.label, "licence": snakemake.params.licence}
    write_json(snakemake.output[0], {**read_json(snakemake.input[0]), **names})
