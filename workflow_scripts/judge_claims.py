"""Judge every claim from the study's tables, and write them as a table and a page."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.claims.ledger import judge
    from sinkorigin.claims.page import render_html
    from sinkorigin.claims.verdicts import SCHEMA, Judged
    from sinkorigin.models.labels import complete_labels
    from sinkorigin.tables import read_table, write_table, write_text

    tables = dict(snakemake.input.items())
    labels = {facts["name"]: facts["label"] for facts in snakemake.params.models}
    labels = complete_labels(labels, tables.pop("provenance"))
    comparison = [read_table(path) for path in tables.pop("pretraining_comparison")]
    table = judge(
        tables,
        models=[Judged(**{**facts, "label": labels[facts["name"]]}) for facts in snakemake.params.models],
        prompts=snakemake.params.prompts,
        interventions=snakemake.params.interventions,
    )
    write_table(snakemake.output.table, table, SCHEMA)
    study = Path(snakemake.output.table).parent.name
    write_text(snakemake.output.page, render_html(table, study, *comparison))
