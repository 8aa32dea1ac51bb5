"""Effects of every intervention on one model and prompt set, against the unedited baseline and against its controls."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.interventions import intervention_tables
    from sinkorigin.tables import write_table

    found = intervention_tables(
        [
            Path(snakemake.input.baseline).parent,
            *(Path(snakemake.input.edited).parent / name for name in snakemake.params.interventions),
        ],
        snakemake.params.length,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        replicates=snakemake.params.replicates,
        comparison_replicates=snakemake.params.comparison_replicates,
        seed=snakemake.params.seed,
    )
    for name, table in found.items():
        write_table(snakemake.output[name], table, table.schema)
