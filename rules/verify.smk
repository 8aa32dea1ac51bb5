# Verify: whether what a study holds is as it was written. Nothing of the study depends on it.


rule verify:
    """Compare every file of the study with the hash that was recorded when it was written."""
    localrule: True
    threads: 2
    resources:
        mem_mb=1000,
    params:
        study=STUDY_CONFIG.study,
        files=lambda wildcards: written_files(),
    message:
        "Verifying the study"
    script:
        "../workflow_scripts/verify.py"
