"""Rule plot_sinks_by_position: sink_rate and secondary_sinks tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.sinks_by_position import draw
    from sinkorigin.tables import read_table

    tables = {
        name: pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input[name])
        for name in ("sink_rate", "secondary_sinks")
    }
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(**tables, labels=labels), snakemake.output)
