"""The paper's table of pretraining: every run's losses and structure over seeds, against its baseline."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.pretraining_comparison import (
        BY_SEED_SCHEMA,
        COMPARISON_SCHEMA,
        by_seed_table,
        comparison_table,
        read_training,
    )
    from sinkorigin.tables import read_table, write_table

    ends = {(row["run"], row["seed"]): row for row in read_table(snakemake.input.pretraining).to_pylist()}
    measured = {path.parent.name: path.parent for path in map(Path, snakemake.input.training)}
    trainings = [
        read_training(
            history,
            measured[facts["run"]] / f"seed={facts['seed']}.parquet",
            parameters=ends[facts["run"], facts["seed"]]["parameters"],
            **facts,
        )
        for history, facts in zip(snakemake.input.history, snakemake.params.trainings, strict=True)
    ]
    by_seed = by_seed_table(trainings)
    write_table(snakemake.output.by_seed, by_seed, BY_SEED_SCHEMA)
    write_table(snakemake.output.comparison, comparison_table(trainings, by_seed), COMPARISON_SCHEMA)
