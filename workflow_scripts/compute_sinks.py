"""A1 and A2: sink scores, mass, rate and onset."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.change_points import SCHEMA as CHANGES_SCHEMA
    from sinkorigin.statistics.sinks import (
        SINK_MASS_SCHEMA,
        SINK_ONSET_SCHEMA,
        SINK_RATE_SCHEMA,
        SINKS_SCHEMA,
        sink_tables,
    )
    from sinkorigin.tables import write_table

    tables_ = sink_tables(
        snakemake.input.scores,
        epsilons=snakemake.params.epsilons,
        onset_mass=snakemake.params.onset_mass,
        change_mass=snakemake.params.change_mass,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    for name, table, schema in zip(
        ["sinks", "sink_mass", "sink_rate", "sink_onset", "sink_changes"],
        tables_,
        [SINKS_SCHEMA, SINK_MASS_SCHEMA, SINK_RATE_SCHEMA, SINK_ONSET_SCHEMA, CHANGES_SCHEMA],
        strict=True,
    ):
        write_table(getattr(snakemake.output, name), table, schema)
