"""Effects of every intervention on one model and prompt set, against the unedited baseline and against its controls."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.interventions import compute
    from sinkorigin.tables import write_table

    found = compute(
        snakemake.input,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        interventions=snakemake.params.interventions,
        length=snakemake.params.length,
        replicates=snakemake.params.replicates,
        comparison_replicates=snakemake.params.comparison_replicates,
        seed=snakemake.params.seed,
    )
    for name, table in found.items():
        write_table(snakemake.output[name], table, table.schema)
