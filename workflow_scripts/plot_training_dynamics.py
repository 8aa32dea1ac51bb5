"""Rule plot_training_dynamics: histories and statistics over training → figure."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.training_dynamics import draw
    from sinkorigin.tables import read_table

    measured = [path for folder in snakemake.input.training_files for path in sorted(Path(folder).glob("*.parquet"))]
    history, training = (
        pl.concat(pl.DataFrame(read_table(path)) for path in paths) for paths in (snakemake.input.history, measured)
    )
    figure = draw(
        history,
        training.filter(pl.col("prompts") == snakemake.params.prompts),
        groups=snakemake.params.groups,
    )
    style.save(figure, snakemake.output)
