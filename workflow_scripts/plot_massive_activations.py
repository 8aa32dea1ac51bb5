"""Rule plot_massive_activations: massive_activations tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.massive_activations import draw
    from sinkorigin.tables import read_table

    table = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.massive_activations)
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(table, labels), snakemake.output)
