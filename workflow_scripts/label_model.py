"""Add to a model's provenance what figures and claims of this study call the model, and its licence."""

from harness.job import job

with job(snakemake):
    from sinkorigin.models.labels import label_of
    from sinkorigin.tables import read_json, write_json

    provenance = read_json(snakemake.input[0])
    label = label_of(snakemake.params.label, provenance["quantisation"])
    write_json(snakemake.output[0], {**provenance, "label": label, "licence": snakemake.params.licence})
