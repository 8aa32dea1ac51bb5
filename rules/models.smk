# Models: fetched and checked once, shared by all studies.


rule fetch_model:
    input:
        unpack(base_model),
        local_files=local_model,
    output:
        files=directory("results/models/{model}"),
        manifest="results/models/{model}/manifest.json",
        provenance="results/models/{model}.provenance.json",
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
        wildcards=all_wildcards,
        code=code("fetch_model.py"),
    message:
        "Fetching model {wildcards.model}"
    script:
        "../workflow_scripts/fetch_model.py"
