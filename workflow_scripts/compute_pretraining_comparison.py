"""The paper's table of pretraining: every run's losses and structure over seeds, against its baseline."""

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
    trainings = [
        read_training(history, measured, parameters=ends[facts["run"], facts["seed"]]["parameters"], **facts)
        for history, measured, facts in zip(
            snakemake.input.history, snakemake.input.training, snakemake.params.trainings, strict=True
        )
    ]
    by_seed = by_seed_table(trainings)
    write_table(snakemake.output.by_seed, by_seed, BY_SEED_SCHEMA)
    write_table(snakemake.output.comparison, comparison_table(trainings, by_seed), COMPARISON_SCHEMA)
