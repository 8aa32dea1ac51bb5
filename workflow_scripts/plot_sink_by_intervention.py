"""Rule plot_sink_by_intervention: interventions tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.sink_by_intervention import draw
    from sinkorigin.tables import read_table

    table = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.interventions)
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(interventions=table, labels=labels, kinds=snakemake.params.kinds), snakemake.output)
