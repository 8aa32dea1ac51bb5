"""Rule plot_super_neurons: super_neurons and super_neuron_surge tables → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.super_neurons import draw
    from sinkorigin.tables import read_table

    tables = {
        name: pl.concat(pl.from_arrow(read_table(path)) for path in snakemake.input[name])
        for name in ("super_neurons", "super_neuron_surge")
    }
    labels = style.model_labels(snakemake.input.provenance)
    style.save(draw(**tables, labels=labels), snakemake.output)
