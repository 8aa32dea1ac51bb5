"""The last losses of every pretraining run and seed."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.pretraining import SCHEMA, count_parameters, summary
    from sinkorigin.tables import write_table

    parameters = [count_parameters(Path(manifest).parent) for manifest in snakemake.input.model]
    write_table(snakemake.output.pretraining, summary(snakemake.input.history, parameters), SCHEMA)
