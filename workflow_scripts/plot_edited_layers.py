"""Rule plot_edited_layers: intervention_layers tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.edited_layers import draw
    from sinkorigin.tables import read_table

    table = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.intervention_layers)
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(intervention_layers=table, labels=labels, kinds=snakemake.params.kinds), snakemake.output)
