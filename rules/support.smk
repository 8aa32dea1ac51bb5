# Support: which decoder classes of transformers can be measured. Nothing of the study depends on it.


rule support:
    """Try every decoder class of transformers: which can be measured, and why others cannot."""
    output:
        "results/support.parquet",
    localrule: True
    threads: 2
    resources:
        mem_mb=4000,
    params:
        # with what is loaded by name
        code=code(
            "survey_support.py",
            "sinkorigin.interventions.kinds.mask",
            "sinkorigin.interventions.kinds.value_averaging",
            "sinkorigin.sites.definitions.attention",
            "sinkorigin.sites.definitions.key",
            "sinkorigin.sites.definitions.query",
            "sinkorigin.sites.definitions.value_aggregation",
        ),
    message:
        "Trying every decoder class of transformers"
    script:
        "../workflow_scripts/survey_support.py"
