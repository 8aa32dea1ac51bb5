"""Try every decoder class that transformers registers: a row each of what is supported, what is not, and why."""

from harness.job import job

with job(snakemake):
    import sys

    from sinkorigin.support.page import summary
    from sinkorigin.support.survey import survey
    from sinkorigin.support.tiny import decoder_types
    from sinkorigin.tables import write_table

    types = snakemake.params.get("types") or decoder_types()
    table = survey(sorted(types.items()), workers=snakemake.threads, seconds=120)
    write_table(snakemake.output[0], table, table.schema)
    print(summary(table), file=sys.__stdout__)
