"""Rule plot_intervention_contrasts: intervention_contrasts tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.intervention_contrasts import draw
    from sinkorigin.tables import read_table

    table = pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input.intervention_contrasts)
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(intervention_contrasts=table, labels=labels, kinds=snakemake.params.kinds), snakemake.output)
