"""E1: effective rank of the residual stream by layer."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.rank import EFFECTIVE_RANK_MEAN_SCHEMA, EFFECTIVE_RANK_SCHEMA, rank_tables
    from sinkorigin.tables import write_table

    by_layer, mean = rank_tables(
        snakemake.input.residual_gram, model=snakemake.wildcards.model, prompts=snakemake.wildcards.prompts
    )
    write_table(snakemake.output.effective_rank, by_layer, EFFECTIVE_RANK_SCHEMA)
    write_table(snakemake.output.effective_rank_mean, mean, EFFECTIVE_RANK_MEAN_SCHEMA)
