"""Judge every claim from the study's tables, and write them as a table and a page."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.claims import SCHEMA, Judged, judge, render_html
    from sinkorigin.tables import read_json, read_table, write_table, write_text

    labels = [read_json(path)["label"] for path in snakemake.input.provenance]
    table = judge(
        Path(snakemake.output.table).parent,
        models=[Judged(label=label, **facts) for label, facts in zip(labels, snakemake.params.models, strict=True)],
        prompts=snakemake.params.prompts,
        interventions=snakemake.params.interventions,
    )
    write_table(snakemake.output.table, table, SCHEMA)
    comparison = read_table(snakemake.input.comparison) if snakemake.input.comparison else None
    write_text(snakemake.output.page, render_html(table, Path(snakemake.output.table).parent.name, comparison))
