# Statistics: Parquet tables in, Parquet tables out, without PyTorch.


rule compute_variance:
    input:
        sites=[f"{STUDY}/activations/{{model}}/{{prompts}}/value_aggregation/manifest.json"],
    output:
        variance=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance.parquet",
        variance_trend=f"{STUDY}/statistics/{{model}}/{{prompts}}/variance_trend.parquet",
    log:
        f"{STUDY}/logs/compute_variance/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/compute_variance/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
    params:
        sites=["value_aggregation"],
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute_variance.py"),
    message:
        "Variance by position of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute_variance.py"


rule compute_norms:
    input:
        magnitudes=rules.extract_activations.output.magnitudes,
    output:
        norms=f"{STUDY}/statistics/{{model}}/{{prompts}}/norms.parquet",
        norm_ratio=f"{STUDY}/statistics/{{model}}/{{prompts}}/norm_ratio.parquet",
        norm_surge=f"{STUDY}/statistics/{{model}}/{{prompts}}/norm_surge.parquet",
    log:
        f"{STUDY}/logs/compute_norms/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/compute_norms/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
    params:
        surge_ratio=STUDY_CONFIG.statistics.surge_ratio,
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute_norms.py"),
    message:
        "Norms by layer and position of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute_norms.py"


rule compute_disparity:
    input:
        magnitudes=rules.extract_activations.output.magnitudes,
    output:
        disparity=f"{STUDY}/statistics/{{model}}/{{prompts}}/disparity.parquet",
        disparity_by_layer=f"{STUDY}/statistics/{{model}}/{{prompts}}/disparity_by_layer.parquet",
    log:
        f"{STUDY}/logs/compute_disparity/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/compute_disparity/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
    params:
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute_disparity.py"),
    message:
        "Dominance ratios of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute_disparity.py"


rule compute_sinks:
    input:
        scores=rules.extract_activations.output.scores,
    output:
        sinks=f"{STUDY}/statistics/{{model}}/{{prompts}}/sinks.parquet",
        sink_mass=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_mass.parquet",
        sink_rate=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_rate.parquet",
        sink_onset=f"{STUDY}/statistics/{{model}}/{{prompts}}/sink_onset.parquet",
    log:
        f"{STUDY}/logs/compute_sinks/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/compute_sinks/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
    params:
        epsilons=STUDY_CONFIG.statistics.epsilons,
        onset_mass=STUDY_CONFIG.statistics.onset_mass,
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute_sinks.py"),
    message:
        "Sink scores of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute_sinks.py"


rule compute_intervention_effects:
    input:
        baseline=f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline.parquet",
        edited=strengths_run,
    output:
        interventions=f"{STUDY}/statistics/{{model}}/{{prompts}}/interventions.parquet",
    log:
        f"{STUDY}/logs/compute_intervention_effects/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/compute_intervention_effects/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
        gpu=0,
    params:
        length=lambda wildcards: PROMPTS[wildcards.prompts].length,
        replicates=STUDY_CONFIG.statistics.replicates,
        seed=STUDY_CONFIG.statistics.seed,
        code=code("compute_intervention_effects.py"),
    message:
        "Effects of the interventions in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute_intervention_effects.py"


rule summarize_pretraining:
    input:
        history=[
            f"{STUDY}/pretraining/{run.name}/seed={seed}/history.parquet"
            for run in RUNS.values()
            for seed in run.seeds
        ],
        model=[model_manifest(name) for name in TRAINED],
    output:
        pretraining=f"{STUDY}/statistics/pretraining.parquet",
    log:
        f"{STUDY}/logs/summarize_pretraining.log",
    benchmark:
        f"{STUDY}/benchmarks/summarize_pretraining.tsv"
    conda:
        "../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=10,
        gpu=0,
    params:
        code=code("compute_pretraining_summary.py"),
    message:
        "Summarizing the pretraining runs"
    script:
        "../workflow_scripts/compute_pretraining_summary.py"
