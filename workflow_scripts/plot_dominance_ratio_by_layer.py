"""Rule plot_dominance_ratio_by_layer: disparity_by_layer tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.dominance_ratio_by_layer import draw
    from sinkorigin.tables import read_table

    table = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.disparity_by_layer)
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(table, labels), snakemake.output)
