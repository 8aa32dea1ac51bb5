"""Rule plot_loss_curves: training histories → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.loss_curves import draw
    from sinkorigin.tables import read_table

    history = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.history)
    style.save(draw(history), snakemake.output)
