# Statistics: Parquet tables in, Parquet tables out; only the weights need PyTorch.


rule measure_weights:
    input:
        model_files=ancient(model_files),
        model=model_of,
    output:
        neurons=f"{STUDY}/weights/{{model}}/neurons.parquet",
        output_projection=f"{STUDY}/weights/{{model}}/output_projection.parquet",
    params:
        trust_remote_code=trusts_remote_code,
        code=model_code("measure_weights.py"),
    message:
        "Measuring the weights of {wildcards.model}"
    script:
        "../workflow_scripts/measure_weights.py"


rule compute_variance:
    input:
        site_files=ancient(
            expand(
                f"{STUDY}/activations/{{model}}/{{prompts}}/{{site}}",
                site=VARIANCE_SITES,
                allow_missing=True,
            )
        ),
        sites=expand(
            f"{STUDY}/activations/{{model}}/{{prompts}}/{{site}}/manifest.json",
            site=VARIANCE_SITES,
            allow_missing=True,
        ),
    output:
        variance=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance.parquet",
        variance_trend=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance_trend.parquet",
    params:
        statistic="variance",
        sites=VARIANCE_SITES,
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute.py", "sinkorigin.statistics.variance"),
    message:
        "Variance by position of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_norms:
    input:
        magnitudes=rules.extract_activations.output.magnitudes,
    output:
        norms=f"{STUDY}/statistics/{{model}}/{{prompts}}/norms.parquet",
        norm_ratio=f"{STUDY}/statistics/{{model}}/{{prompts}}/norm_ratio.parquet",
        norm_surge=f"{STUDY}/statistics/{{model}}/{{prompts}}/norm_surge.parquet",
        norm_changes=f"{STUDY}/statistics/{{model}}/{{prompts}}/norm_changes.parquet",
    params:
        statistic="norms",
        surge_ratio=STUDY_CONFIG.statistics.surge_ratio,
        change_factor=STUDY_CONFIG.statistics.change_factor,
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute.py", "sinkorigin.statistics.norms"),
    message:
        "Norms by layer and position of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_disparity:
    input:
        magnitudes=rules.extract_activations.output.magnitudes,
    output:
        disparity=f"{STUDY}/statistics/{{model}}/{{prompts}}/disparity.parquet",
        disparity_by_layer=f"{STUDY}/statistics/{{model}}/{{prompts}}/disparity_by_layer.parquet",
        massive_activations=f"{STUDY}/statistics/{{model}}/{{prompts}}/massive_activations.parquet",
    params:
        statistic="disparity",
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute.py", "sinkorigin.statistics.disparity"),
    message:
        "Dominance ratios and massive activations of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_sinks:
    input:
        scores=rules.extract_activations.output.scores,
    output:
        sinks=f"{STUDY}/statistics/{{model}}/{{prompts}}/sinks.parquet",
        sink_mass=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_mass.parquet",
        sink_rate=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_rate.parquet",
        sink_onset=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_onset.parquet",
        sink_changes=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_changes.parquet",
    params:
        statistic="sinks",
        epsilons=STUDY_CONFIG.statistics.epsilons,
        onset_mass=STUDY_CONFIG.statistics.onset_mass,
        change_mass=STUDY_CONFIG.statistics.change_mass,
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute.py", "sinkorigin.statistics.sinks"),
    message:
        "Sink scores of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_variance_through_output:
    input:
        site_files=ancient(
            expand(
                f"{STUDY}/activations/{{model}}/{{prompts}}/{{site}}",
                site=["value_aggregation", "attention_output"],
                allow_missing=True,
            )
        ),
        value_aggregation=f"{STUDY}/activations/{{model}}/{{prompts}}/value_aggregation/manifest.json",
        attention_output=f"{STUDY}/activations/{{model}}/{{prompts}}/attention_output/manifest.json",
        output_projection=rules.measure_weights.output.output_projection,
    output:
        variance_through_output=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance_through_output.parquet",
    params:
        statistic="variance_through_output",
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute.py", "sinkorigin.statistics.variance_through_output"),
    message:
        "Variance through W_O of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_super_neurons:
    input:
        first_token_neurons=rules.extract_activations.output.first_token_neurons,
        neuron_moments=rules.extract_activations.output.neuron_moments,
        gate_cosines=rules.extract_activations.output.gate_cosines,
        magnitudes=rules.extract_activations.output.magnitudes,
        neurons=rules.measure_weights.output.neurons,
    output:
        super_neurons=f"{STUDY}/statistics/{{model}}/{{prompts}}/super_neurons.parquet",
        super_neuron_surge=f"{STUDY}/statistics/{{model}}/{{prompts}}/super_neuron_surge.parquet",
    params:
        statistic="super_neurons",
        share=STUDY_CONFIG.statistics.super_neuron_share,
        ratio=STUDY_CONFIG.statistics.super_neuron_ratio,
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute.py", "sinkorigin.statistics.super_neurons"),
    message:
        "Super neurons of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_keys:
    input:
        first_token_keys=rules.extract_activations.output.first_token_keys,
        query_gram=rules.extract_activations.output.query_gram,
        scores=rules.extract_activations.output.scores,
    output:
        key_collapse=f"{STUDY}/statistics/{{model}}/{{prompts}}/key_collapse.parquet",
        query_alignment=f"{STUDY}/statistics/{{model}}/{{prompts}}/query_alignment.parquet",
        alignment_correlation=f"{STUDY}/statistics/{{model}}/{{prompts}}/alignment_correlation.parquet",
    params:
        statistic="keys",
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute.py", "sinkorigin.statistics.keys"),
    message:
        "Keys of position 0 of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_secondary_sinks:
    input:
        scores=rules.extract_activations.output.scores,
        prompts=prompts_of,
        magnitudes=rules.extract_activations.output.magnitudes,
    output:
        secondary_sinks=f"{STUDY}/statistics/{{model}}/{{prompts}}/secondary_sinks.parquet",
        secondary_sinks_by_layer=f"{STUDY}/statistics/{{model}}/{{prompts}}/secondary_sinks_by_layer.parquet",
    params:
        statistic="secondary_sinks",
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute.py", "sinkorigin.statistics.secondary_sinks"),
    message:
        "Secondary sinks of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_effective_rank:
    input:
        residual_gram=rules.extract_activations.output.residual_gram,
    output:
        effective_rank=f"{STUDY}/statistics/{{model}}/{{prompts}}/effective_rank.parquet",
        effective_rank_mean=f"{STUDY}/statistics/{{model}}/{{prompts}}/effective_rank_mean.parquet",
    params:
        statistic="effective_rank",
        code=code("compute.py", "sinkorigin.statistics.effective_rank"),
    message:
        "Effective rank of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_intervention_effects:
    input:
        baseline_files=ancient(f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline"),
        baseline=f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline/manifest.json",
        edited_files=ancient(f"{STUDY}/interventions/{{model}}/{{prompts}}/edited"),
        edited=f"{STUDY}/interventions/{{model}}/{{prompts}}/edited/interventions.json",
    output:
        interventions=f"{STUDY}/statistics/{{model}}/{{prompts}}/interventions.parquet",
        intervention_layers=f"{STUDY}/statistics/{{model}}/{{prompts}}/intervention_layers.parquet",
        intervention_contrasts=f"{STUDY}/statistics/{{model}}/{{prompts}}/intervention_contrasts.parquet",
        dose_response=f"{STUDY}/statistics/{{model}}/{{prompts}}/dose_response.parquet",
        dispersion_grid=f"{STUDY}/statistics/{{model}}/{{prompts}}/dispersion_grid.parquet",
    params:
        statistic="interventions",
        interventions=lambda wildcards: [edit.name for edit in EDITED[wildcards.model, wildcards.prompts]],
        length=lambda wildcards: PROMPTS[wildcards.prompts].length,
        replicates=STUDY_CONFIG.statistics.replicates,
        comparison_replicates=STUDY_CONFIG.statistics.comparison_replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=lambda wildcards: code(
            "compute.py",
            "sinkorigin.statistics.interventions",
            *kind_modules(EDITED[wildcards.model, wildcards.prompts]),
        ),
    message:
        "Effects of the interventions in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule measure_training:
    input:
        unpack(trainings_of_run),
        prompts=prompts_of_run,
    output:
        files=directory(f"{STUDY}/statistics/training/{{run}}"),
        manifest=f"{STUDY}/statistics/training/{{run}}/manifest.json",
    resources:
        device=DEVICE,
    params:
        run=lambda wildcards: measured_run(RUNS[wildcards.run]),
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        epsilons=STUDY_CONFIG.statistics.epsilons,
        code=run_code("measure_training.py"),
    message:
        "Statistics over the trainings of {wildcards.run}"
    script:
        "../workflow_scripts/measure_training.py"


rule summarize_pretraining:
    input:
        history=[
            f"{STUDY}/pretraining/{run.name}/seed={seed}/history.parquet"
            for run in RUNS.values()
            for seed in run.seeds
        ],
        model_files=ancient([os.path.dirname(model_manifest(name)) for name in TRAINED]),
        model=[model_manifest(name) for name in TRAINED],
    output:
        pretraining=f"{STUDY}/statistics/pretraining.parquet",
    params:
        statistic="pretraining",
        code=code("compute.py", "sinkorigin.statistics.pretraining"),
    message:
        "Summarizing the pretraining runs"
    script:
        "../workflow_scripts/compute.py"


rule compare_pretraining:
    input:
        history=rules.summarize_pretraining.input.history,
        training_files=ancient([os.path.dirname(manifest) for manifest in training_tables()]),
        training=training_tables(),
        pretraining=rules.summarize_pretraining.output[0],
    output:
        by_seed=f"{STUDY}/statistics/pretraining_by_seed.parquet",
        comparison=f"{STUDY}/statistics/pretraining_comparison.parquet",
    params:
        statistic="pretraining_comparison",
        trainings=compared_trainings(),
        code=code("compute.py", "sinkorigin.statistics.pretraining_comparison"),
    message:
        "Comparing the pretraining runs"
    script:
        "../workflow_scripts/compute.py"
