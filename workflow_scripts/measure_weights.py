"""S1 and S2 from the weights: norms and sparsity of FFN neurons, columns of W_O."""

from harness.job import job

with job(snakemake):
    from pathlib import Path

    from sinkorigin.models.loading import load_model
    from sinkorigin.sites.architecture import read_architecture
    from sinkorigin.statistics.weights import (
        NEURONS_SCHEMA,
        OUTPUT_PROJECTION_SCHEMA,
        neuron_table,
        output_projection_table,
    )
    from sinkorigin.tables import write_table

    model = load_model(
        Path(snakemake.input.model).parent,
        threads=snakemake.threads,
        trust_remote_code=snakemake.params.trust_remote_code,
    )
    name = snakemake.wildcards.model
    architecture = read_architecture(model, name)
    write_table(snakemake.output.neurons, neuron_table(architecture, name), NEURONS_SCHEMA)
    write_table(
        snakemake.output.output_projection, output_projection_table(architecture, name), OUTPUT_PROJECTION_SCHEMA
    )
