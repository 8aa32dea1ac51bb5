# Interventions: the unedited baseline once, and one job for all edits of a model on a prompt set. They share the model and one
# unedited pass; the job makes only the strengths that are missing.


rule measure_baseline:
    input:
        model_files=ancient(model_files),
        model=model_of,
        prompts=prompts_of,
    output:
        files=directory(f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline"),
        manifest=f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline/manifest.json",
    log:
        f"{STUDY}/logs/measure_baseline/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/measure_baseline/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=memory("measure_baseline"),
        runtime=minutes("measure_baseline"),
        disk_mb=disk("measure_baseline"),
        gpu=gpus("measure_baseline"),
        gpu_mem_mb=gpu_memory("measure_baseline"),
        device=DEVICE,
    params:
        positions=edited_positions,
        sequences=edited_sequences,
        losses=reads_losses,
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
        unpack(facts_for_edits),
        model_files=ancient(model_files),
        model=model_of,
        prompts=prompts_of,
    output:
        files=directory(f"{STUDY}/interventions/{{model}}/{{prompts}}/edited"),
        list=f"{STUDY}/interventions/{{model}}/{{prompts}}/edited/interventions.json",
    log:
        f"{STUDY}/logs/intervene/{{model}}/{{prompts}}.log",
    benchmark:
        f"{STUDY}/benchmarks/intervene/{{model}}/{{prompts}}.tsv"
    conda:
        "../envs/models.yaml"
    threads: 2
    resources:
        mem_mb=memory("intervene"),
        runtime=minutes("intervene"),
        disk_mb=disk("intervene"),
        gpu=gpus("intervene"),
        gpu_mem_mb=gpu_memory("intervene"),
        device=DEVICE,
    params:
        edits=edits_of,
        sequences=edited_sequences,
        losses=reads_losses,
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        trust_remote_code=trusts_remote_code,
        code=code("intervene.py"),
    message:
        "Intervening in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/intervene.py"
