# Interventions: what they are in each model, the unedited baseline once, and one job for all edits of a model on a prompt set. They
# share the model and one unedited pass; the job makes only the strengths that are missing.


# apart from the edits, so that a threshold that moves no layer makes no edit again
rule resolve_interventions:
    """Layers, neurons and strengths that each intervention has in a model, or why it is not applicable."""
    input:
        unpack(study.tables_of_kinds),
        unpack(study.tables_of_layers),
        architecture=rules.extract_activations.output.architecture,
        prompts=study.prompts_of,
    output:
        resolved_interventions=f"{STUDY}/statistics/{{model}}/{{prompts}}/resolved_interventions.parquet",
    params:
        edits=study.edit_parameters,
        by_kind=lambda wildcards: list(study.tables_of_kinds(wildcards)),
        by_rule=study.tables_of_rules,
        like=study.layers_like,
        sequences=study.edited_sequences,
        code=code_by("resolve_interventions.py", study.kind_modules),
    message:
        "Resolving the interventions in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/resolve_interventions.py"


# what every pass over prompts depends on
PASSES = dict(
    sequences=study.edited_sequences,
    losses=study.reads_text,
    batch=STUDY_CONFIG.activations.batch,
    dtype=STUDY_CONFIG.dtype,
    trust_remote_code=study.trusts_remote_code,
)


rule measure_baseline:
    """Run the unedited model and read every position that an intervention edits."""
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
        **PASSES,
        positions=study.edited_positions,
        code=code_by("measure_baseline.py", study.variant_modules),
    message:
        "Measuring unedited {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/measure_baseline.py"


rule intervene:
    """Run the interventions of a model on a prompt set; strengths that are there already are kept."""
    input:
        unpack(study.tables_of_kinds),
        resolved=rules.resolve_interventions.output.resolved_interventions,
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
        **PASSES,
        edits=study.edit_parameters,
        made_elsewhere=f"{STUDY}/first_look/{{model}}/{{prompts}}/.edited",
        kinds=kind_versions,
        code=code_by("intervene.py", study.kind_modules, study.variant_modules),
    message:
        "Intervening in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/intervene.py"


rule follow_edits:
    """Put single links of the chain in, exchange them or take them away, with an edit and without."""
    input:
        unpack(study.tables_of_chain),
        resolved=rules.resolve_interventions.output.resolved_interventions,
        architecture=rules.extract_activations.output.architecture,
        model_files=ancient(directory_of(study.model_of)),
        model=study.model_of,
        prompts=study.prompts_of,
    output:
        passes=f"{STUDY}/interventions/{{model}}/{{prompts}}/mechanism.parquet",
        attention_map=f"{STUDY}/interventions/{{model}}/{{prompts}}/attention_map.parquet",
    threads: 2
    resources:
        device=DEVICE,
    params:
        **{name: PASSES[name] for name in ("batch", "dtype", "trust_remote_code")},
        edits=study.followed_edits,
        position=STUDY_CONFIG.mechanism.position,
        sequences=STUDY_CONFIG.mechanism.sequences,
        seed=STUDY_CONFIG.mechanism.seed,
        code=code_by("follow_edits.py", study.followed_modules, study.variant_modules),
    message:
        "Following edits through the chain of {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/follow_edits.py"
