# Plan: what the study needs before it runs, and what it needed afterwards. Nothing of the study depends on it.


rule plan:
    output:
        table=f"{STUDY}/plan.parquet",
        text=f"{STUDY}/plan.md",
    log:
        f"{STUDY}/logs/plan.log",
    localrule: True
    conda:
        "../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        snakefile=workflow.main_snakefile,
        configfiles=list(map(str, workflow.overwrite_configfiles)),
        config=config,
        study=STUDY_CONFIG.study,
        assumptions=ESTIMATES.assumptions(),
        now=time(),  # a plan is made whenever it is asked for
    message:
        "Planning the study"
    script:
        "../workflow_scripts/plan.py"


rule check_resources:
    input:
        rules.plan.output.table,
    log:
        f"{STUDY}/logs/check_resources.log",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        gpu=0,
    message:
        "Comparing measured peaks with the plan"
    script:
        "../workflow_scripts/check_resources.py"
