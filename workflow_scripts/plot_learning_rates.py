"""Rule plot_learning_rates: table of the sweep → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.learning_rates import draw
    from sinkorigin.tables import read_table

    table = pl.DataFrame(read_table(snakemake.input[0]))
    style.save(draw(table, groups=snakemake.params.groups), snakemake.output)
