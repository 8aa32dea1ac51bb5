# Models: fetched and checked once, shared by all studies.


rule fetch_model:
    input:
        unpack(base_model),
        local_files=local_model,
    output:
        files=directory("results/models/{model}"),
        manifest="results/models/{model}/manifest.json",
        provenance="results/models/{model}.provenance.json",
    wildcard_constraints:
        model="|".join(map(re.escape, MODELS)),
    threads: 2
    params:
        model=lambda wildcards: fetched_as(wildcards.model),
        wildcards=all_wildcards,
        code=code("fetch_model.py"),
    message:
        "Fetching model {wildcards.model}"
    script:
        "../workflow_scripts/fetch_model.py"
