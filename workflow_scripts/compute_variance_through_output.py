"""V2: the variance discrepancy before and after W_O."""

from harness.job import job

with job(snakemake):
    from pathlib import Path

    from sinkorigin.statistics.through_output import SCHEMA, through_output_table
    from sinkorigin.tables import write_table

    table = through_output_table(
        Path(snakemake.input.value_aggregation).parent,
        Path(snakemake.input.attention_output).parent,
        snakemake.input.output_projection,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    write_table(snakemake.output.variance_through_output, table, SCHEMA)
