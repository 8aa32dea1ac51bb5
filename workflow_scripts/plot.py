"""One figure from its tables: ``sinkorigin.figures.{figure}`` draws, for the rules ``plot_{figure}``."""

from harness.job import job

with job(snakemake):
    from importlib import import_module

    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.tables import read_table

    tables = {
        name: pl.concat(pl.DataFrame(read_table(path)) for path in paths) for name, paths in snakemake.input.items()
    }
    draw = import_module(f"sinkorigin.figures.{snakemake.params.figure}").draw
    style.save(draw(**tables, **snakemake.params.keywords), snakemake.output)
