# Publish: a finished study as a folder that can be uploaded. It uploads nothing, and nothing of the study depends on it.

from importlib.metadata import version


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
