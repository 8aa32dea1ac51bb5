"""D1 and D2: dominance ratios by layer and position, and where activations are massive."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.disparity import (
        DISPARITY_BY_LAYER_SCHEMA,
        DISPARITY_SCHEMA,
        MASSIVE_SCHEMA,
        disparity_tables,
        massive_table,
    )
    from sinkorigin.tables import write_table

    settings = {
        "model": snakemake.wildcards.model,
        "prompts": snakemake.wildcards.prompts,
        "replicates": snakemake.params.replicates,
        "seed": snakemake.params.seed,
    }
    by_position, by_layer = disparity_tables(snakemake.input.magnitudes, **settings)
    massive = massive_table(snakemake.input.magnitudes, **settings)
    write_table(snakemake.output.disparity, by_position, DISPARITY_SCHEMA)
    write_table(snakemake.output.disparity_by_layer, by_layer, DISPARITY_BY_LAYER_SCHEMA)
    write_table(snakemake.output.massive_activations, massive, MASSIVE_SCHEMA)
