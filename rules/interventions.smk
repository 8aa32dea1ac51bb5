# Interventions: the unedited baseline once, and one job for every strength of every edit.


rule measure_baseline:
    input:
        model=model_of,
        prompts=rules.tokenize_prompts.output[0],
    output:
        f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline.parquet",
    log:
        f"{STUDY}/logs/measure_baseline/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/measure_baseline/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/models.yaml"
    threads: 2
    resources:
        mem_mb=model_memory,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=GPUS,
        device=DEVICE,
    params:
        positions=edited_positions,
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        trust_remote_code=trusts_remote_code,
        code=code("measure_baseline.py"),
    message:
        "Measuring unedited {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/measure_baseline.py"


rule intervene:
    input:
        model=model_of,
        prompts=rules.tokenize_prompts.output[0],
    output:
        f"{STUDY}/interventions/{{model}}/{{prompts}}/{{intervention}}/strength={{strength}}.parquet",
    log:
        f"{STUDY}/logs/intervene/{{model}}/{{prompts}}/{{intervention}}/strength={{strength}}.log",
    benchmark:
        f"{STUDY}/benchmarks/intervene/{{model}}/{{prompts}}/{{intervention}}/strength={{strength}}.tsv"
    conda:
        "../envs/models.yaml"
    threads: 2
    resources:
        mem_mb=model_memory,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=GPUS,
        device=DEVICE,
    params:
        edit=edit_of,
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        trust_remote_code=trusts_remote_code,
        code=code("intervene.py"),
    message:
        "Running {wildcards.intervention} at strength {wildcards.strength} in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/intervene.py"
