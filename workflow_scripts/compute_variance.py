"""V1: variance by position of each configured site, and its trend by layer."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    import pyarrow as pa

    from sinkorigin.statistics.variance import TREND_SCHEMA, VARIANCE_SCHEMA, variance_tables
    from sinkorigin.tables import write_table

    variances, trends = [], []
    for site, manifest in zip(snakemake.params.sites, snakemake.input.sites, strict=True):
        variance, trend = variance_tables(
            Path(manifest).parent,
            model=snakemake.wildcards.model,
            prompts=snakemake.wildcards.prompts,
            site=site,
            replicates=snakemake.params.replicates,
            seed=snakemake.params.seed,
        )
        variances.append(variance)
        trends.append(trend)
    write_table(snakemake.output.variance, pa.concat_tables(variances), VARIANCE_SCHEMA)
    write_table(snakemake.output.variance_trend, pa.concat_tables(trends), TREND_SCHEMA)
