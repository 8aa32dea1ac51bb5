# Models: fetched and checked once, shared by all studies.


def fetched_as(name):
    """Everything that decides what lies in a model's directory."""
    return MODELS[name].model_dump(exclude={"shape"})


def check_model_names():
    """A model that another study has under the same name is the same model, since both share its directory."""
    from sinkorigin.tables import read_json  # imports pyarrow, which a dry run need not wait for

    for name in MODELS:
        users = {folder.parts[1] for folder in Path("results").glob(f"*/prompts/{name}/")}
        others = sorted(users - {STUDY_CONFIG.study})
        try:
            there = read_json(f"results/models/{name}.provenance.json")["asked"]
        except (SinkoriginError, KeyError):
            continue  # it is fetched again anyway
        for key, value in fetched_as(name).items():
            if others and there.get(key) != value:
                sys.exit(
                    f"sinkorigin: {CONFIG_FILES}: model {name} has {key} {value}, but results/models/{name} was fetched with "
                    f"{there.get(key)} and study {others[0]} uses it; give the model another name in one of the studies, or "
                    f"delete results/{others[0]} if it is no longer needed"
                )


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
