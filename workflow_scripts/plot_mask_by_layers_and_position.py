"""Rule plot_mask_by_layers_and_position: interventions tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.mask_by_layers_and_position import draw
    from sinkorigin.tables import read_table

    table = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.interventions)
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(interventions=table, labels=labels), snakemake.output)
