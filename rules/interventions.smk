# Interventions: the unedited baseline once, and one job for all edits of a model on a prompt set. They share the model and one
# unedited pass; the job makes only the strengths that are missing.


rule measure_baseline:
    input:
        model_files=ancient(directory_of(study.model_of)),
        model=study.model_of,
        prompts=study.prompts_of,
    output:
        files=directory(f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline"),
        manifest=f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline/manifest.json",
    resources:
        device=DEVICE,
    params:
        positions=study.edited_positions,
        sequences=study.edited_sequences,
        losses=study.reads_text,
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        trust_remote_code=study.trusts_remote_code,
        code=code_by("measure_baseline.py", study.variant_modules),
    message:
        "Measuring unedited {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/measure_baseline.py"


rule intervene:
    input:
        unpack(study.needed_tables),
        model_files=ancient(directory_of(study.model_of)),
        model=study.model_of,
        prompts=study.prompts_of,
    output:
        files=directory(f"{STUDY}/interventions/{{model}}/{{prompts}}/edited"),
        list=f"{STUDY}/interventions/{{model}}/{{prompts}}/edited/interventions.json",
    threads: 2
    resources:
        device=DEVICE,
    params:
        edits=study.edit_parameters,
        sequences=study.edited_sequences,
        losses=study.reads_text,
        batch=STUDY_CONFIG.activations.batch,
        dtype=STUDY_CONFIG.dtype,
        trust_remote_code=study.trusts_remote_code,
        kinds=kind_versions,
        code=code_by("intervene.py", study.kind_modules, study.variant_modules),
    message:
        "Intervening in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/intervene.py"
