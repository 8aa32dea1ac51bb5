"""A row for every job of the study: what it is expected to need, and what it needed where it has run."""

from harness.job import job

with job(snakemake):
    import sys
    from pathlib import Path

    import pyarrow as pa
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    from harness.plan import SCHEMA, job_row, plan_text
    from sinkorigin.tables import write_table, write_text

    targets = {"all", "learning_rates"}
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        params = snakemake.params
        settings = ConfigSettings(configfiles=[Path(file) for file in params.configfiles], config=params.config)
        opened = api.workflow(ResourceSettings(cores=1), settings, snakefile=Path(params.snakefile))
        opened.dag(DAGSettings(targets=targets))
        # no public call hands out the jobs: this is what `snakemake --dag` does before it prints them
        workflow = opened._workflow
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        estimates = workflow.globals["ESTIMATES"]
        dag = workflow.dag
        study = set(dag.bfs(dag.dependencies, *(one for one in dag.jobs if one.rule.name == "all")))
        order = {rule: place for place, rule in enumerate(workflow.rules)}
        rows = [
            job_row(
                estimates.of(one.rule.name, one.wildcards_dict),
                target="all" if one in study else "learning_rates",
                rule=one.rule.name,
                wildcards=one.wildcards_dict,
                threads=one.threads,
                log=one.log[0],
                benchmark=one.benchmark,
            )
            for one in sorted(dag.jobs, key=lambda one: order[one.rule])
            if one.rule.name not in targets
        ]
    write_table(snakemake.output.table, pa.Table.from_pylist(rows, schema=SCHEMA), SCHEMA)
    text = plan_text(rows, params.assumptions, params.study)
    write_text(snakemake.output.text, text)
    print(text, file=sys.__stdout__)
