# Plan: what the study needs before it runs, and what it needed afterwards. Nothing of the study depends on it.


rule plan:
    """Print time, memory and disk that every job of the study is expected to need; runs none of them."""
    output:
        table=f"{STUDY}/plan.parquet",
        text=f"{STUDY}/plan.md",
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
    params:
        snakefile=ROOT / "Snakefile",
        targets=["all", *(["learning_rates"] if study.runs else [])],
        config={**MERGED.values, "snapshot": True},
        study=STUDY_CONFIG.study,
        assumptions=study.estimates.assumptions(),
        now=time(),  # so that a plan is made at every request
    message:
        "Planning the study"
    script:
        "../workflow_scripts/plan.py"


rule check_resources:
    """Compare predicted memory with the measured peaks; fails where it is off."""
    input:
        rules.plan.output.table,
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
    message:
        "Comparing measured peaks with the plan"
    script:
        "../workflow_scripts/check_resources.py"
