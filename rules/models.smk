# Models: fetched and checked once, shared by all studies.


def fetched_as(name):
    """Everything that decides what lies in a model's directory."""
    return MODELS[name].model_dump(exclude={"shape"})


def check_model_names():
    """Refuse to fetch a model over that of another study, which has the same name and other settings."""
    from sinkorigin.tables import read_json  # imports pyarrow, which a dry run need not wait for

    fetching = [job.wildcards.model for job in workflow.dag.needrun_jobs() if job.rule.name == "fetch_model"]
    for name in fetching:
        users = {folder.parts[1] for folder in Path("results").glob(f"*/prompts/{name}/")}
        others = sorted(users - {STUDY_CONFIG.study})
        try:
            there = read_json(f"results/models/{name}.provenance.json")["config"]
        except (SinkoriginError, KeyError):
            continue
        new = fetched_as(name)
        different = [key for key in new if key in there and there[key] != new[key]]
        if others and different:
            key = different[0]
            sys.exit(
                f"sinkorigin: {CONFIG_FILES}: model {name} has {key} {new[key]}, but results/models/{name} was fetched with "
                f"{there[key]} and study {others[0]} uses it; give the model another name in one of the studies, or "
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
