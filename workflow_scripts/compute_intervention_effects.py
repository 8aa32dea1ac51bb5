"""Effects of every intervention on one model and prompt set, paired with the unedited baseline."""

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.statistics.interventions import SCHEMA, effects
    from sinkorigin.tables import write_table

    table = effects(
        [snakemake.input.baseline, *snakemake.input.edited],
        snakemake.params.length,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    write_table(snakemake.output.interventions, table, SCHEMA)
