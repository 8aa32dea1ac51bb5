"""Sinks at positions other than 0, by token and by layer."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.secondary_sinks import (
        SECONDARY_BY_LAYER_SCHEMA,
        SECONDARY_SINKS_SCHEMA,
        secondary_sink_tables,
    )
    from sinkorigin.tables import write_table

    by_token, by_layer = secondary_sink_tables(
        snakemake.input.scores,
        snakemake.input.prompts,
        snakemake.input.magnitudes,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    write_table(snakemake.output.secondary_sinks, by_token, SECONDARY_SINKS_SCHEMA)
    write_table(snakemake.output.secondary_sinks_by_layer, by_layer, SECONDARY_BY_LAYER_SCHEMA)
