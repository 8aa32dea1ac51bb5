"""A row for every job of the study: what it is expected to need, and what it needed where it has run."""

from harness.job import job

with job(snakemake):
    import sys
    from pathlib import Path

    import pyarrow as pa

    from harness.plan import SCHEMA, job_row, plan_text
    from harness.snakemake_internals import planned_jobs
    from sinkorigin.tables import write_table, write_text

    params = snakemake.params
    with planned_jobs(Path(params.snakefile), params.targets, config=params.config) as (jobs, variables):
        rows = [
            job_row(
                variables["study"].estimates.of(planned.rule.name, planned.wildcards_dict),
                target=target,
                rule=planned.rule.name,
                wildcards=planned.wildcards_dict,
                threads=planned.threads,
                log=planned.log[0],
                benchmark=planned.benchmark,
            )
            for target, planned in jobs
        ]
    write_table(snakemake.output.table, pa.Table.from_pylist(rows, schema=SCHEMA), SCHEMA)
    text = plan_text(rows, params.assumptions, params.study)
    write_text(snakemake.output.text, text)
    print(text, file=sys.__stdout__)
