"""Rule plot_pretraining_comparison: values by seed and their paired differences → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.pretraining_comparison import draw
    from sinkorigin.tables import read_table

    by_seed, comparison = (
        pl.DataFrame(read_table(path)).filter(
            pl.col("prompts").is_null() | (pl.col("prompts") == snakemake.params.prompts)
        )
        for path in (snakemake.input.by_seed, snakemake.input.comparison)
    )
    style.save(draw(by_seed, comparison, groups=snakemake.params.groups), snakemake.output)
