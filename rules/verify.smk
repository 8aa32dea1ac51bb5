# Verify: whether what a study holds is as it was written. Nothing of the study depends on it.


rule verify:
    log:
        f"{STUDY}/logs/verify.log",
    localrule: True
    conda:
        "../envs/statistics.yaml"
    threads: 2
    resources:
        mem_mb=1000,
        gpu=0,
    params:
        study=STUDY_CONFIG.study,
        files=lambda wildcards: written_files(),
    message:
        "Verifying the study"
    script:
        "../workflow_scripts/verify.py"
