"""Rule plot_dispersion_grid: interventions and dispersion_grid tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.dispersion_grid import draw
    from sinkorigin.tables import read_table

    tables = {
        name: pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input[name])
        for name in ("interventions", "dispersion_grid")
    }
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(**tables, labels=labels), snakemake.output)
