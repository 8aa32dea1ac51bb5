"""One figure from its tables: ``sinkorigin.figures.{figure}`` draws, for the rules ``plot_{figure}``."""

from harness.job import job

with job(snakemake):
    from importlib import import_module
    from pathlib import Path

    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.models.labels import complete_labels
    from sinkorigin.tables import read_table

    def files(path):
        """The file itself, or the tables in the directory of a manifest."""
        path = Path(path)
        return sorted(path.parent.glob("*.parquet")) if path.name == "manifest.json" else [path]

    tables = {
        name: pl.concat(pl.DataFrame(read_table(file)) for path in paths for file in files(path))
        for name, paths in snakemake.input.items()
        if not name.endswith("_files") and name != "provenance"
    }
    keywords = dict(snakemake.params.keywords)
    if "labels" in keywords:
        keywords["labels"] = complete_labels(keywords["labels"], snakemake.input.get("provenance", []))
    draw = import_module(f"sinkorigin.figures.{snakemake.params.figure}").draw
    style.save(draw(**tables, **keywords), snakemake.output)
