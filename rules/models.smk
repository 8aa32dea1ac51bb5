# Models: fetched and checked once, shared by all studies; each study gives them labels.


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
        model=one_of(MODELS),
    conda:
        "../envs/models.yaml"
    threads: 2
    resources:
        mem_mb=memory("fetch_model"),
        runtime=minutes("fetch_model"),
        disk_mb=disk("fetch_model"),
        gpu=0,
    params:
        model=lambda wildcards: fetched_as(wildcards.model),
        wildcards=all_wildcards,
        code=code("fetch_model.py"),
    message:
        "Fetching model {wildcards.model}"
    script:
        "../workflow_scripts/fetch_model.py"


# apart from the fetch, so that another label or licence fetches and measures nothing again
rule label_model:
    input:
        "results/models/{model}.provenance.json",
    output:
        f"{STUDY}/provenance/{{model}}.json",
    log:
        f"{STUDY}/logs/label_model/{{model}}.log",
    benchmark:
        f"{STUDY}/benchmarks/label_model/{{model}}.tsv"
    wildcard_constraints:
        model=one_of(MODELS),
    localrule: True
    conda:
        "../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory("label_model"),
        runtime=minutes("label_model"),
        disk_mb=disk("label_model"),
        gpu=0,
    params:
        label=lambda wildcards: MODELS[wildcards.model].label,
        licence=lambda wildcards: MODELS[wildcards.model].licence,
        code=code("label_model.py"),
    message:
        "Labelling model {wildcards.model}"
    script:
        "../workflow_scripts/label_model.py"
