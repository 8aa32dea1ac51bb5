"""Rule plot_necessity: interventions tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.necessity import draw
    from sinkorigin.tables import read_table

    table = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.interventions)
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(interventions=table, labels=labels), snakemake.output)
