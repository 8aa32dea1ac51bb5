# Publish: a finished study as a folder that can be uploaded. It uploads nothing, and nothing of the study depends on it.

from importlib.metadata import version


rule make_crate:
    """Write the folder that `publish` asks for, with its RO-Crate."""
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


rule publish:
    """Make results/{study}/publish of a finished study: RO-Crate, cards, records of the claims, checklist. Uploads nothing."""
    input:
        rules.make_crate.output,
        # demanded, so that a study in which one is missing is not finished
        lambda wildcards: list(rules.all.input),
    localrule: True
