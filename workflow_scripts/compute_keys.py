"""K1 and K2: the key of position 0, and how queries point along it."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.keys import (
        ALIGNMENT_CORRELATION_SCHEMA,
        KEY_COLLAPSE_SCHEMA,
        QUERY_ALIGNMENT_SCHEMA,
        key_tables,
    )
    from sinkorigin.tables import write_table

    tables_ = key_tables(
        first_token_keys=snakemake.input.first_token_keys,
        query_gram=snakemake.input.query_gram,
        scores=snakemake.input.scores,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    for name, table, schema in zip(
        ["key_collapse", "query_alignment", "alignment_correlation"],
        tables_,
        [KEY_COLLAPSE_SCHEMA, QUERY_ALIGNMENT_SCHEMA, ALIGNMENT_CORRELATION_SCHEMA],
        strict=True,
    ):
        write_table(getattr(snakemake.output, name), table, schema)
