# Publish: a finished study as a folder that can be uploaded. It uploads nothing, and nothing of the study depends on it.

from importlib.metadata import version

from sinkorigin.tables import SEALED


def whole_study(sealed):
    """Files of `all`: tables and manifests, whose seals each job verifies; or figures and pages, which the script compares with logs."""
    return [file for file in rules.all.input if (Path(file).suffix in SEALED) == sealed]


def rules_told():
    """Rule → its script and description, and of rules without wildcards the files that they read."""
    return {
        name: {
            "script": Path(rule.script).name,
            "description": rule.docstring,
            "inputs": (
                [] if rule.wildcard_names else [str(file) for file in rule.input if isinstance(file, str)]
            ),
        }
        for name, rule in RULES.items()
        if rule.script is not None
    }


def provenances():
    """Provenance of every model, fetched or trained."""
    fetched = [f"{STUDY}/provenance/{model}.json" for model in study.models]
    trained = [f"{study.run_folder(run.name, seed)}/provenance.json" for run, seed in study.trained.values()]
    return list(map(PLACED, fetched + trained))


rule publish:
    """Make results/{study}/publish of a finished study: RO-Crate, cards, records of the claims, checklist. Uploads nothing."""
    input:
        tables=lambda wildcards: whole_study(sealed=True),
        pages=lambda wildcards: whole_study(sealed=False),
    output:
        f"{STUDY}/publish/ro-crate-metadata.json",
    localrule: True
    threads: 2
    resources:
        mem_mb=2000,
    params:
        files=lambda wildcards: written_files("publish"),
        rules=lambda wildcards: rules_told(),
        provenances=lambda wildcards: provenances(),
        models=study.judged_models(),
        settings=MERGED.values,
        config=STUDY_CONFIG.model_dump(mode="json"),
        root=str(ROOT),
        engine=version("snakemake"),
        code=code("publish.py"),
    message:
        "Making a folder of the study to publish"
    script:
        "../workflow_scripts/publish.py"
