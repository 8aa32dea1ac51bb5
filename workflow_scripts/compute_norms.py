"""V3: norms of the residual stream, and where the first token's surges."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.change_points import SCHEMA as CHANGES_SCHEMA
    from sinkorigin.statistics.norms import NORM_RATIO_SCHEMA, NORM_SURGE_SCHEMA, NORMS_SCHEMA, norm_tables
    from sinkorigin.tables import write_table

    tables_ = norm_tables(
        snakemake.input.magnitudes,
        surge_ratio=snakemake.params.surge_ratio,
        change_factor=snakemake.params.change_factor,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    for name, table, schema in zip(
        ["norms", "norm_ratio", "norm_surge", "norm_changes"],
        tables_,
        [NORMS_SCHEMA, NORM_RATIO_SCHEMA, NORM_SURGE_SCHEMA, CHANGES_SCHEMA],
        strict=True,
    ):
        write_table(getattr(snakemake.output, name), table, schema)
