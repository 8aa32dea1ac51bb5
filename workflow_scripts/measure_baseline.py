"""Measure the unedited model at every position that an intervention edits."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.corpora.prompts import read_token_ids
    from sinkorigin.interventions.sweep import measure_baseline
    from sinkorigin.models.loading import load_model
    from sinkorigin.sites.architecture import read_architecture
    from sinkorigin.tables import atomic_directory

    model = load_model(
        Path(snakemake.input.model).parent,
        device=snakemake.resources.device,
        dtype=snakemake.params.dtype,
        threads=snakemake.threads,
        trust_remote_code=snakemake.params.trust_remote_code,
        gpus=snakemake.resources.gpu,
    )
    with atomic_directory(snakemake.output.files) as folder:
        measure_baseline(
            read_architecture(model, snakemake.wildcards.model),
            read_token_ids(snakemake.input.prompts)[: snakemake.params.sequences],
            folder,
            targets=snakemake.params.positions,
            model=snakemake.wildcards.model,
            batch=snakemake.params.batch,
            losses=snakemake.params.losses,
        )
