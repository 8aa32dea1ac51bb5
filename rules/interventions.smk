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
    resources:
        device=DEVICE,
    params:
        positions=edited_positions,
        sequences=edited_sequences,
        losses=reads_losses,
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        trust_remote_code=trusts_remote_code,
        code=model_code("measure_baseline.py"),
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
    threads: 2
    resources:
        device=DEVICE,
    params:
        edits=edits_of,
        sequences=edited_sequences,
        losses=reads_losses,
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        trust_remote_code=trusts_remote_code,
        kinds=kind_versions,
        code=lambda wildcards: code(
            "intervene.py",
            *kind_modules(EDITED[wildcards.model, wildcards.prompts]),
            *variant_modules(STUDY_CONFIG, wildcards.model),
        ),
    message:
        "Intervening in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/intervene.py"
