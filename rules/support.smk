# Support: which decoder classes of transformers can be measured. Nothing of the study depends on it.


rule support:
    output:
        "results/support.parquet",
    localrule: True
    threads: 2
    resources:
        mem_mb=4000,
    params:
        code=code("survey_support.py"),
    message:
        "Trying every decoder class of transformers"
    script:
        "../workflow_scripts/survey_support.py"
