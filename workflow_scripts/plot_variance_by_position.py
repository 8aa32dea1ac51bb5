"""Rule plot_variance_by_position: variance tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.variance_by_position import draw
    from sinkorigin.tables import read_table

    variance, trend = (
        pl.concat(pl.from_arrow(read_table(path)) for path in paths)
        for paths in (snakemake.input.variance, snakemake.input.variance_trend)
    )
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(variance, trend, labels, snakemake.params.layers), snakemake.output)
