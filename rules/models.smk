# Models: fetched and checked once, shared by all studies.


rule fetch_model:
    input:
        unpack(base_model),
    output:
        "results/models/{model}/manifest.json",
    log:
        "results/logs/fetch_model/{model}.log",
    benchmark:
        "results/benchmarks/fetch_model/{model}.tsv"
    wildcard_constraints:
        model="|".join(map(re.escape, MODELS)),
    conda:
        "../envs/models.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
        gpu=0,
    params:
        model=lambda wildcards: MODELS[wildcards.model].model_dump(),
        code=code("fetch_model.py"),
    message:
        "Fetching model {wildcards.model}"
    script:
        "../workflow_scripts/fetch_model.py"
