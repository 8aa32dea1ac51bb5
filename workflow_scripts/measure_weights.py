"""Measure the weights of a model: norms and channel sparsity of its FFN neurons, columns of W_O."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.models.loading import load_model
    from sinkorigin.sites.architecture import read_architecture
    from sinkorigin.statistics.weights import weight_tables
    from sinkorigin.tables import write_table

    folder, trusted = Path(snakemake.input.model).parent, snakemake.params.trust_remote_code
    model = load_model(folder, threads=snakemake.threads, trust_remote_code=trusted)
    name = snakemake.wildcards.model
    for table_name, table in weight_tables(read_architecture(model, name), model=name).items():
        write_table(snakemake.output[table_name], table, table.schema)
