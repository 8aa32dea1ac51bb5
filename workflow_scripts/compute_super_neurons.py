"""S1: the FFN neurons of the first token, ranked."""

from harness.job import job

with job(snakemake):
    from sinkorigin.statistics.super_neurons import SUPER_NEURONS_SCHEMA, SURGE_SCHEMA, super_neuron_tables
    from sinkorigin.tables import write_table

    neurons, surge = super_neuron_tables(
        first_token_neurons=snakemake.input.first_token_neurons,
        neuron_moments=snakemake.input.neuron_moments,
        gate_cosines=snakemake.input.gate_cosines,
        magnitudes=snakemake.input.magnitudes,
        neurons=snakemake.input.neurons,
        model=snakemake.wildcards.model,
        prompts=snakemake.wildcards.prompts,
        share=snakemake.params.share,
        ratio=snakemake.params.ratio,
        replicates=snakemake.params.replicates,
        seed=snakemake.params.seed,
    )
    write_table(snakemake.output.super_neurons, neurons, SUPER_NEURONS_SCHEMA)
    write_table(snakemake.output.super_neuron_surge, surge, SURGE_SCHEMA)
