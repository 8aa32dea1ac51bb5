"""Judge every claim from the study's tables, and write them as a table and a page."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.claims import evidence
    from sinkorigin.claims.ledger import judge
    from sinkorigin.claims.page import render_html
    from sinkorigin.claims.verdicts import SCHEMA, Judged
    from sinkorigin.models.labels import complete_labels
    from sinkorigin.tables import read_table, write_table, write_text

    tables = dict(snakemake.input.items())
    labels = {facts["name"]: facts["label"] for facts in snakemake.params.models}
    labels = complete_labels(labels, tables.pop("provenance"))
    comparison = [read_table(path) for path in tables.pop("pretraining_comparison")]
    models = [Judged(**facts | {"label": labels[facts["name"]]}) for facts in snakemake.params.models]
    table = judge(
        tables,
        models=models,
        prompts=list(snakemake.params.prompts),
        first_tokens=snakemake.params.first_tokens,
        missing=snakemake.params.missing,
    )
    write_table(snakemake.output.table, table, SCHEMA)
    matrix, summary = evidence.evidence(table.to_pylist(), models=models, prompts=snakemake.params.prompts)
    write_table(snakemake.output.evidence, matrix, evidence.SCHEMA)
    write_table(snakemake.output.evidence_summary, summary, evidence.SUMMARY_SCHEMA)
    study = Path(snakemake.output.table).parent.name
    page = render_html(
        table,
        study,
        *comparison,
        matrix=matrix,
        missing=snakemake.params.missing,
        undrawn=snakemake.params.undrawn,
    )
    write_text(snakemake.output.page, page)
