"""Find what the interventions of a study are in one model: their layers, and which of them it allows."""

from harness.job import job

with job(snakemake, "sinkorigin.interventions.resolution"):
    import numpy as np
    import polars as pl

    from sinkorigin.interventions.resolution import SCHEMA, Known, missing_sites, resolve, structure_of
    from sinkorigin.tables import read_table, write_table

    params, inputs = snakemake.params, snakemake.input
    architecture = pl.DataFrame(read_table(inputs.architecture))
    known = Known(
        structure_of(architecture, {name: inputs[f"{name}_of_layers"] for name in params.by_rule}),
        missing_sites(architecture),
        {name: inputs[name] for name in params.by_kind},
        np.array(read_table(inputs.prompts, ["token_ids"])["token_ids"].to_pylist())[: params.sequences],
        params.like,
    )
    table = resolve(params.edits, known, **dict(snakemake.wildcards.items()))
    write_table(snakemake.output.resolved_interventions, table, SCHEMA)
    for row in table.to_pylist():
        print(f"{row['intervention']}: layers {row['layers']}, {row['how']}; {row['reason'] or 'applicable'}")
