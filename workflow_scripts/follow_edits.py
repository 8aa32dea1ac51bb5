"""Follow edits of one model through the links of the chain, exchange positions, and take links from position 0."""

from pathlib import Path

from harness.job import job

with job(snakemake, "sinkorigin.statistics.mediation"):
    import polars as pl
    import pyarrow as pa

    from sinkorigin.corpora.prompts import read_token_ids
    from sinkorigin.interventions.attention_map import SCHEMA as MAP_SCHEMA
    from sinkorigin.interventions.attention_map import attention_maps
    from sinkorigin.interventions.chain import structure
    from sinkorigin.interventions.entries import applicable, edits_of
    from sinkorigin.interventions.mechanism import Cause, mechanism
    from sinkorigin.models.loading import load_model
    from sinkorigin.sites.architecture import read_architecture
    from sinkorigin.statistics.mediation import PASSES_SCHEMA
    from sinkorigin.tables import read_table, table_writer, write_not_applicable

    params, inputs = snakemake.params, snakemake.input
    entries = applicable(params.edits, read_table(inputs.resolved).to_pylist())
    causes = [
        Cause(name, edits_of({**entry, "positions": [params.position]}, entry["strengths"][0])[0])
        for name, entry in entries.items()
        if [params.position] in entry["positions"]
    ]
    if not causes:
        reason = f"no edit to follow can be made at position {params.position}"
        write_not_applicable(snakemake.output.passes, reason, PASSES_SCHEMA)
        write_not_applicable(snakemake.output.attention_map, reason, MAP_SCHEMA)
    else:
        model = load_model(
            Path(inputs.model).parent,
            device=snakemake.resources.device,
            dtype=params.dtype,
            threads=snakemake.threads,
            trust_remote_code=params.trust_remote_code,
            gpus=snakemake.resources.gpu,
        )
        architecture = read_architecture(model, snakemake.wildcards.model)
        changes = pl.DataFrame(read_table(inputs.norm_changes, ["kind", "layer"]))
        found = structure(
            pl.DataFrame(read_table(inputs.super_neurons)),
            changes.filter(kind="rise")["layer"].sort().to_list(),
            edited=causes[0].edit.layers,
            layers=architecture.layers,
            attending=sorted(architecture.attention),
            width=model.config.get_text_config().hidden_size,
            seed=params.seed,
        )
        print(f"super neurons {dict(found.neurons) or found.reason}; dims {dict(found.dims)}")
        ids = read_token_ids(inputs.prompts)[: params.sequences]
        with table_writer(snakemake.output.passes, PASSES_SCHEMA) as writer:
            workers = 1 if snakemake.resources.device == "mps" else snakemake.threads
            settings = {"target": params.position, "batch": params.batch, "workers": workers}
            for rows in mechanism(architecture, ids, found, causes, **settings):
                writer.write_table(pa.Table.from_pylist(rows, schema=PASSES_SCHEMA))
        with table_writer(snakemake.output.attention_map, MAP_SCHEMA) as writer:
            for rows in attention_maps(architecture, ids, causes, batch=params.batch):
                writer.write_table(pa.Table.from_pylist(rows, schema=MAP_SCHEMA))
