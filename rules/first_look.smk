# The first look: the chain's measurements and three edits of the first model on its first prompts. They are the study's own, so
# that `all` makes none of it again: the statistics by the same rules, the edits as folders that `intervene` takes over.


rule edit_for_first_look:
    """Run the three interventions of the first look."""
    input:
        unpack(study.tables_of_kinds),
        resolved=rules.resolve_interventions.output.resolved_interventions,
        model_files=ancient(directory_of(study.model_of)),
        model=study.model_of,
        prompts=study.prompts_of,
    output:
        files=directory(f"{STUDY}/first_look/{{model}}/{{prompts}}/edited"),
        list=f"{STUDY}/first_look/{{model}}/{{prompts}}/edited/interventions.json",
    threads: 2
    resources:
        device=DEVICE,
    params:
        **PASSES,
        edits=study.first_edit_parameters,
        made_elsewhere=f"{STUDY}/interventions/{{model}}/{{prompts}}/.edited",
        kinds=kind_versions,
        code=code_by("intervene.py", study.kind_modules, study.variant_modules),
    message:
        "Intervening in {wildcards.model} on {wildcards.prompts} for a first look"
    script:
        "../workflow_scripts/intervene.py"


rule measure_first_look:
    """Effects of the three interventions of the first look."""
    input:
        baseline_files=ancient(f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline"),
        baseline=f"{STUDY}/interventions/{{model}}/{{prompts}}/baseline/manifest.json",
        edited_files=ancient(f"{STUDY}/first_look/{{model}}/{{prompts}}/edited"),
        edited=f"{STUDY}/first_look/{{model}}/{{prompts}}/edited/interventions.json",
        resolved=rules.resolve_interventions.output.resolved_interventions,
        prompts=study.prompts_of,
    output:
        **{
            table: f"{STUDY}/first_look/{{model}}/{{prompts}}/{table}.parquet"
            for table in rules.compute_intervention_effects.output.keys()
        },
    params:
        **EFFECTS,
        statistic="interventions",
        only=lambda wildcards: [edit["name"] for edit in study.first_edit_parameters(wildcards)],
    message:
        "Effects of the first look's edits in {wildcards.model} on {wildcards.prompts}"
    script:
        "../workflow_scripts/compute.py"


rule tell_first_look:
    """Write the first look in ten lines."""
    input:
        **study.tables_of_first_look(),
    output:
        f"{STUDY}/first_look.txt",
    localrule: True
    params:
        labels={model: study.labels()[model] for model, _ in study.first_look()},
        code=code("tell_first_look.py", *study.first_look_modules()),
    message:
        "Telling the first look"
    script:
        "../workflow_scripts/tell_first_look.py"
