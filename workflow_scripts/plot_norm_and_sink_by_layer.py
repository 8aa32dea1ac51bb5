"""Rule plot_norm_and_sink_by_layer: norm and sink tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.norm_and_sink_by_layer import draw
    from sinkorigin.tables import read_table

    tables = {
        name: pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input[name])
        for name in ("norm_ratio", "norm_surge", "sink_mass", "sink_onset")
    }
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(**tables, labels=labels), snakemake.output)
