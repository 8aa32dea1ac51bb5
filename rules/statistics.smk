# Statistics: Parquet tables in, Parquet tables out; only the weights need PyTorch.


rule measure_weights:
    """Measure a model's weights: norms and sparsity of its FFN neurons, norms of the columns of W_O."""
    input:
        model_files=ancient(directory_of(study.model_of)),
        model=study.model_of,
    output:
        neurons=f"{STUDY}/weights/{{model}}/neurons.parquet",
        output_projection=f"{STUDY}/weights/{{model}}/output_projection.parquet",
    params:
        trust_remote_code=study.trusts_remote_code,
        code=code_by("measure_weights.py", study.variant_modules),
    message:
        "Measuring the weights of {wildcards.model}"
    script:
        "../workflow_scripts/measure_weights.py"


rule compute_variance:
    """Variance over sequences of the value aggregation, by layer and position (V1)."""
    input:
        **study.variance_sites(),
        prompts=study.prompts_of,
    output:
        variance=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance.parquet",
        variance_trend=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance_trend.parquet",
    params:
        **statistic("variance"),
        **BOOTSTRAP,
        sites=STUDY_CONFIG.activations.variance_sites,
    message:
        "Variance by position of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_norms:
    """Norm of the residual stream by layer and position, and the layers of its surge (V3)."""
    input:
        magnitudes=rules.extract_activations.output.magnitudes,
        prompts=study.prompts_of,
    output:
        norms=f"{STUDY}/statistics/{{model}}/{{prompts}}/norms.parquet",
        norm_ratio=f"{STUDY}/statistics/{{model}}/{{prompts}}/norm_ratio.parquet",
        norm_surge=f"{STUDY}/statistics/{{model}}/{{prompts}}/norm_surge.parquet",
        norm_changes=f"{STUDY}/statistics/{{model}}/{{prompts}}/norm_changes.parquet",
    params:
        **statistic("norms"),
        **BOOTSTRAP,
        surge_ratio=STUDY_CONFIG.statistics.surge_ratio,
        change_factor=STUDY_CONFIG.statistics.change_factor,
    message:
        "Norms by layer and position of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_disparity:
    """Dominance ratios and massive activations: one dim against the others (D1, D2)."""
    input:
        magnitudes=rules.extract_activations.output.magnitudes,
        prompts=study.prompts_of,
    output:
        disparity=f"{STUDY}/statistics/{{model}}/{{prompts}}/disparity.parquet",
        disparity_by_layer=f"{STUDY}/statistics/{{model}}/{{prompts}}/disparity_by_layer.parquet",
        massive_activations=f"{STUDY}/statistics/{{model}}/{{prompts}}/massive_activations.parquet",
    params:
        **statistic("disparity"),
        **BOOTSTRAP,
    message:
        "Dominance ratios and massive activations of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_sinks:
    """Sink scores, mass, rate and onset: the attention that positions receive (A1, A2)."""
    input:
        scores=rules.extract_activations.output.scores,
        prompts=study.prompts_of,
    output:
        sinks=f"{STUDY}/statistics/{{model}}/{{prompts}}/sinks.parquet",
        sink_mass=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_mass.parquet",
        sink_rate=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_rate.parquet",
        sink_onset=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_onset.parquet",
        sink_changes=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_changes.parquet",
    params:
        **statistic("sinks"),
        **BOOTSTRAP,
        length=study.length_of,
        epsilons=STUDY_CONFIG.statistics.epsilons,
        onset_mass=STUDY_CONFIG.statistics.onset_mass,
        change_mass=STUDY_CONFIG.statistics.change_mass,
    message:
        "Sink scores of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_first_positions:
    """Sink mass of the first four positions under the prompts' kind of first token."""
    input:
        scores=rules.extract_activations.output.scores,
        prompts=study.prompts_of,
    output:
        first_positions=f"{STUDY}/statistics/{{model}}/{{prompts}}/first_positions.parquet",
        first_position_sinks=f"{STUDY}/statistics/{{model}}/{{prompts}}/first_position_sinks.parquet",
    params:
        **statistic("first_positions"),
        **BOOTSTRAP,
        length=study.length_of,
        first_token=study.first_token_of,
    message:
        "Sink mass of the first positions of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_variance_through_output:
    """Variance by position before and after the output projection W_O (V2)."""
    input:
        **study.kept_site("value_aggregation"),
        **study.kept_site("output_projection_output"),
        output_projection=rules.measure_weights.output.output_projection,
        prompts=study.prompts_of,
    output:
        variance_through_output=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance_through_output.parquet",
        variance_through_output_mean=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance_through_output_mean.parquet",
    params:
        **statistic("variance_through_output"),
        **BOOTSTRAP,
    message:
        "Variance through W_O of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_super_neurons:
    """FFN neurons ranked by what they write for the first token, and their share of the norm surge (S1, S2)."""
    input:
        first_token_neurons=rules.extract_activations.output.first_token_neurons,
        neuron_moments=rules.extract_activations.output.neuron_moments,
        gate_cosines=rules.extract_activations.output.gate_cosines,
        magnitudes=rules.extract_activations.output.magnitudes,
        neurons=rules.measure_weights.output.neurons,
        prompts=study.prompts_of,
    output:
        super_neurons=f"{STUDY}/statistics/{{model}}/{{prompts}}/super_neurons.parquet",
        super_neuron_surge=f"{STUDY}/statistics/{{model}}/{{prompts}}/super_neuron_surge.parquet",
    params:
        **statistic("super_neurons"),
        **BOOTSTRAP,
        share=STUDY_CONFIG.statistics.super_neuron_share,
        ratio=STUDY_CONFIG.statistics.super_neuron_ratio,
    message:
        "Super neurons of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_keys:
    """Collapse of the first token's key to one direction, and heads whose queries align with it (K1, K2)."""
    input:
        first_token_keys=rules.extract_activations.output.first_token_keys,
        query_gram=rules.extract_activations.output.query_gram,
        scores=rules.extract_activations.output.scores,
        prompts=study.prompts_of,
    output:
        key_collapse=f"{STUDY}/statistics/{{model}}/{{prompts}}/key_collapse.parquet",
        query_alignment=f"{STUDY}/statistics/{{model}}/{{prompts}}/query_alignment.parquet",
        alignment_correlation=f"{STUDY}/statistics/{{model}}/{{prompts}}/alignment_correlation.parquet",
        aligned_heads=f"{STUDY}/statistics/{{model}}/{{prompts}}/aligned_heads.parquet",
    params:
        **statistic("keys"),
        **BOOTSTRAP,
    message:
        "Keys of position 0 of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_secondary_sinks:
    """Positions other than 0 that are sinks, by layer and by token."""
    input:
        scores=rules.extract_activations.output.scores,
        prompts=study.prompts_of,
        magnitudes=rules.extract_activations.output.magnitudes,
    output:
        secondary_sinks=f"{STUDY}/statistics/{{model}}/{{prompts}}/secondary_sinks.parquet",
        secondary_sinks_by_layer=f"{STUDY}/statistics/{{model}}/{{prompts}}/secondary_sinks_by_layer.parquet",
    params:
        **statistic("secondary_sinks"),
        **BOOTSTRAP,
    message:
        "Secondary sinks of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_effective_rank:
    """Effective rank of the residual stream, by layer (E1)."""
    input:
        residual_gram=rules.extract_activations.output.residual_gram,
        prompts=study.prompts_of,
    output:
        effective_rank=f"{STUDY}/statistics/{{model}}/{{prompts}}/effective_rank.parquet",
        effective_rank_mean=f"{STUDY}/statistics/{{model}}/{{prompts}}/effective_rank_mean.parquet",
    params:
        **statistic("effective_rank"),
    message:
        "Effective rank of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_value_drain:
    """Norms of the values at position 0 against the others, with the sink mass."""
    input:
        value_magnitudes=rules.extract_activations.output.value_magnitudes,
        scores=rules.extract_activations.output.scores,
        architecture=rules.extract_activations.output.architecture,
        prompts=study.prompts_of,
    output:
        value_norms=f"{STUDY}/statistics/{{model}}/{{prompts}}/value_norms.parquet",
        value_drain=f"{STUDY}/statistics/{{model}}/{{prompts}}/value_drain.parquet",
        value_drain_and_sink=f"{STUDY}/statistics/{{model}}/{{prompts}}/value_drain_and_sink.parquet",
    params:
        **statistic("value_drain"),
        **BOOTSTRAP,
        onset_mass=STUDY_CONFIG.statistics.onset_mass,
    message:
        "Norms of the values of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_matrix_entropy:
    """Matrix entropy of the residual stream by layer, and where it has a valley (E2)."""
    input:
        token_gram=rules.extract_activations.output.token_gram,
        residual_gram=rules.extract_activations.output.residual_gram,
        scores=rules.extract_activations.output.scores,
        prompts=study.prompts_of,
    output:
        matrix_entropy=f"{STUDY}/statistics/{{model}}/{{prompts}}/matrix_entropy.parquet",
        entropy_valley=f"{STUDY}/statistics/{{model}}/{{prompts}}/entropy_valley.parquet",
    params:
        **statistic("matrix_entropy"),
        **BOOTSTRAP,
    message:
        "Matrix entropy of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_super_weight:
    """The down-projection weight between the spikes of the first token, by layer (S3)."""
    input:
        down_projection_spikes=rules.extract_activations.output.down_projection_spikes,
        architecture=rules.extract_activations.output.architecture,
        prompts=study.prompts_of,
    output:
        super_weight=f"{STUDY}/statistics/{{model}}/{{prompts}}/super_weight.parquet",
    params:
        **statistic("super_weight"),
        **BOOTSTRAP,
    message:
        "Super weight of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_row_sinks:
    """Share of queries whose largest attention weight lies on position 0, by layer and head."""
    input:
        first_token_attention=rules.extract_activations.output.first_token_attention,
        architecture=rules.extract_activations.output.architecture,
        prompts=study.prompts_of,
    output:
        row_sinks=f"{STUDY}/statistics/{{model}}/{{prompts}}/row_sinks.parquet",
        row_sink_rate=f"{STUDY}/statistics/{{model}}/{{prompts}}/row_sink_rate.parquet",
    params:
        **statistic("row_sinks"),
        **BOOTSTRAP,
        epsilons=STUDY_CONFIG.statistics.epsilons,
    message:
        "Row-wise sink rate of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


EFFECTS = dict(
    length=study.length_of,
    **BOOTSTRAP,
    comparison_replicates=STUDY_CONFIG.statistics.comparison_replicates,
    code=code_by("compute.py", lambda _: ["sinkorigin.statistics.interventions"], study.kind_modules),
)


rule compute_intervention_effects:
    """Effects of the interventions: sinks made, contrasts with controls, dose and response."""
    input:
        baseline_files=ancient(f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline"),
        baseline=f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline/manifest.json",
        edited_files=ancient(f"{STUDY}/interventions/{{model}}/{{prompts}}/edited"),
        edited=f"{STUDY}/interventions/{{model}}/{{prompts}}/edited/interventions.json",
        resolved=f"{STUDY}/statistics/{{model}}/{{prompts}}/resolved_interventions.parquet",
        prompts=study.prompts_of,
    output:
        interventions=f"{STUDY}/statistics/{{model}}/{{prompts}}/interventions.parquet",
        intervention_layers=f"{STUDY}/statistics/{{model}}/{{prompts}}/intervention_layers.parquet",
        intervention_contrasts=f"{STUDY}/statistics/{{model}}/{{prompts}}/intervention_contrasts.parquet",
        dose_response=f"{STUDY}/statistics/{{model}}/{{prompts}}/dose_response.parquet",
        dispersion_grid=f"{STUDY}/statistics/{{model}}/{{prompts}}/dispersion_grid.parquet",
        conversions=f"{STUDY}/statistics/{{model}}/{{prompts}}/conversions.parquet",
        curve_contrasts=f"{STUDY}/statistics/{{model}}/{{prompts}}/curve_contrasts.parquet",
    params:
        **EFFECTS,
        statistic="interventions",
        only=None,
    message:
        "Effects of the interventions in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_mediation:
    """Share of an edit's effect that each link of the chain carries, and what removals take away."""
    input:
        passes=f"{STUDY}/interventions/{{model}}/{{prompts}}/mechanism.parquet",
        prompts=study.prompts_of,
    output:
        mediation=f"{STUDY}/statistics/{{model}}/{{prompts}}/mediation.parquet",
        removals=f"{STUDY}/statistics/{{model}}/{{prompts}}/removals.parquet",
    params:
        **statistic("mediation"),
        **BOOTSTRAP,
        length=study.length_of,
    message:
        "Links of the chain in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule compute_anatomy:
    """Facts about a model's sink from all its tables: onset, surges, super neurons, conversions."""
    input:
        unpack(study.tables_of_anatomy),
    output:
        anatomy=f"{STUDY}/statistics/{{model}}/anatomy.parquet",
    params:
        **statistic("anatomy"),
        prompts=study.read_by,
        first_tokens=study.first_tokens_of,
    message:
        "Anatomy of the sink of {wildcards.model}"
    script:
        "../workflow_scripts/compute.py"


rule measure_training:
    """Measure every kept checkpoint of a run's trainings: sink, disparity, norms and rank over the steps."""
    input:
        unpack(study.checkpoints_of_run),
    output:
        files=directory(f"{STUDY}/statistics/training/{{run}}"),
        manifest=f"{STUDY}/statistics/training/{{run}}/manifest.json",
    resources:
        device=TRAINING_DEVICE,
    params:
        run=study.measured_run,
        over_training=STUDY_CONFIG.pretraining.prompts,
        first_tokens=study.first_tokens_of_run,
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        epsilons=STUDY_CONFIG.statistics.epsilons,
        code=code_by("measure_training.py", study.variant_modules),
    message:
        "Statistics over the trainings of {wildcards.run}"
    script:
        "../workflow_scripts/measure_training.py"


rule summarize_pretraining:
    """Last losses, sizes and tokens of every training in one table."""
    input:
        **study.trained_models(),
        history=study.histories(),
    output:
        pretraining=f"{STUDY}/statistics/pretraining.parquet",
    params:
        **statistic("pretraining"),
    message:
        "Summarizing the pretraining runs"
    script:
        "../workflow_scripts/compute.py"


rule compare_pretraining:
    """Values of every run by seed, and paired differences to its baseline."""
    input:
        **study.training_statistics(),
        history=study.histories(),
        pretraining=rules.summarize_pretraining.output[0],
    output:
        by_seed=f"{STUDY}/statistics/pretraining_by_seed.parquet",
        comparison=f"{STUDY}/statistics/pretraining_comparison.parquet",
    params:
        **statistic("pretraining_comparison"),
        trainings=study.compared_trainings(),
    message:
        "Comparing the pretraining runs"
    script:
        "../workflow_scripts/compute.py"


rule compare_pretraining_timing:
    """Speed of every training, and its loss and its baseline's at equal time."""
    input:
        history=study.histories(),
        timing=study.timings(),
    output:
        pretraining_timing=f"{STUDY}/statistics/pretraining_timing.parquet",
    params:
        **statistic("pretraining_timing"),
        trainings=study.compared_trainings(),
    message:
        "Comparing the speed of the pretraining runs"
    script:
        "../workflow_scripts/compute.py"


rule compute_ladder:
    """Gap of a variant to its baseline by model size, and the slope of that gap."""
    input:
        by_seed=rules.compare_pretraining.output.by_seed,
        pretraining=rules.summarize_pretraining.output.pretraining,
    output:
        ladder=f"{STUDY}/statistics/ladder.parquet",
        ladder_slope=f"{STUDY}/statistics/ladder_slope.parquet",
    params:
        **statistic("ladder"),
        runs=study.ladder(),
    message:
        "Comparing the sizes of the runs"
    script:
        "../workflow_scripts/compute.py"
