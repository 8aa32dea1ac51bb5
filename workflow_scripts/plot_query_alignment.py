"""Rule plot_query_alignment: query_alignment and alignment_correlation tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.query_alignment import draw
    from sinkorigin.tables import read_table

    tables = {
        name: pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input[name])
        for name in ("query_alignment", "alignment_correlation")
    }
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(**tables, labels=labels), snakemake.output)
