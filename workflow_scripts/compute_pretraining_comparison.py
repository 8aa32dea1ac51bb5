"""The paper's table of pretraining: every run's losses and structure over seeds, against its baseline."""

from pathlib import Path

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.statistics.pretraining import count_parameters
    from sinkorigin.statistics.pretraining_comparison import (
        BY_SEED_SCHEMA,
        COMPARISON_SCHEMA,
        by_seed_table,
        comparison_table,
        read_training,
    )
    from sinkorigin.tables import write_table

    trainings = [
        read_training(history, measured, parameters=count_parameters(Path(model).parent), **facts)
        for history, measured, model, facts in zip(
            snakemake.input.history,
            snakemake.input.training,
            snakemake.input.model,
            snakemake.params.trainings,
            strict=True,
        )
    ]
    by_seed = by_seed_table(trainings)
    write_table(snakemake.output.by_seed, by_seed, BY_SEED_SCHEMA)
    write_table(snakemake.output.comparison, comparison_table(trainings, by_seed), COMPARISON_SCHEMA)
