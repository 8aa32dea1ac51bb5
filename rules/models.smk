# Models: fetched and checked once, shared by all studies; each study gives them its labels.


rule fetch_model:
    """Fetch a model, or draw its random weights, and check it whole; the result is shared by all studies."""
    input:
        unpack(study.base_model),
        local_files=study.local_model,
    output:
        files=directory("results/models/{model}"),
        manifest="results/models/{model}/manifest.json",
        provenance="results/models/{model}.provenance.json",
    wildcard_constraints:
        model=one_of(study.models),
    threads: 2
    params:
        model=lambda wildcards: study.fetched_as(wildcards.model),
        wildcards=all_wildcards,
        code=code_by("fetch_model.py", study.variant_modules),
    message:
        "Fetching model {wildcards.model}"
    script:
        "../workflow_scripts/fetch_model.py"


# apart from the fetch, so that another label or licence fetches and measures nothing again
rule label_model:
    """Give a fetched model the label and licence under which this study shows it."""
    input:
        "results/models/{model}.provenance.json",
    output:
        f"{STUDY}/provenance/{{model}}.json",
    wildcard_constraints:
        model=one_of(study.models),
    localrule: True
    params:
        label=lambda wildcards: study.labels()[wildcards.model],
        licence=lambda wildcards: study.models[wildcards.model].licence,
        code=code("label_model.py"),
    message:
        "Labelling model {wildcards.model}"
    script:
        "../workflow_scripts/label_model.py"
