"""Rule plot_variance_through_output: variance_through_output tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.variance_through_output import draw
    from sinkorigin.tables import read_table

    table = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.variance_through_output)
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(table, labels), snakemake.output)
