"""Rule plot_training_dynamics: histories and statistics over training → figure."""

from harness.job import job

with job(snakemake):
    import polars as pl

    from sinkorigin.figures import style
    from sinkorigin.figures.training_dynamics import draw
    from sinkorigin.tables import read_table

    history, training = (
        pl.concat(pl.DataFrame(read_table(path)) for path in paths)
        for paths in (snakemake.input.history, snakemake.input.training)
    )
    figure = draw(
        history,
        training.filter(pl.col("prompts") == snakemake.params.prompts),
        groups=snakemake.params.groups,
    )
    style.save(figure, snakemake.output)
