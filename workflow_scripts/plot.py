"""One figure from its tables: ``sinkorigin.figures.{figure}`` draws, for the rules ``plot_{figure}``."""

from harness.job import job

with job(snakemake):
    from importlib import import_module
    from pathlib import Path

    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.models.labels import complete_labels
    from sinkorigin.tables import not_applicable, read_table

    def files(path):
        """The file itself, or the tables in the directory of a manifest."""
        path = Path(path)
        return sorted(path.parent.glob("*.parquet")) if path.name == "manifest.json" else [path]

    inputs = {
        name: paths for name, paths in snakemake.input.items() if not name.endswith("_files") and name != "provenance"
    }
    shown = {name: [path for path in paths if not not_applicable(path)] for name, paths in inputs.items()}
    if all(shown.values()):
        tables = {
            name: pl.concat(pl.DataFrame(read_table(file)) for path in paths for file in files(path))
            for name, paths in shown.items()
        }
        draw = import_module(f"sinkorigin.figures.{snakemake.params.figure}").draw
        keywords = dict(snakemake.params.keywords)
        if "labels" in keywords:
            keywords["labels"] = complete_labels(keywords["labels"], snakemake.input.get("provenance", []))
        figure = draw(**tables, **keywords)
    else:
        reasons = {not_applicable(path) for paths in inputs.values() for path in paths} - {None}
        figure = style.without_data(f"not applicable: {'; '.join(sorted(reasons))}")
    style.save(figure, snakemake.output, sample=snakemake.params.sample, lacks=snakemake.params.lacks)
