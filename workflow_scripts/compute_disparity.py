"""D1: dominance ratios by layer and position."""

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.statistics.disparity import DISPARITY_BY_LAYER_SCHEMA, DISPARITY_SCHEMA, disparity_tables
    from sinkorigin.tables import write_table

    tables_ = disparity_tables(
        snakemake.input.magnitudes,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    for name, table, schema in zip(
        ["disparity", "disparity_by_layer"], tables_, [DISPARITY_SCHEMA, DISPARITY_BY_LAYER_SCHEMA], strict=True
    ):
        write_table(getattr(snakemake.output, name), table, schema)
