"""Measure the unedited model at every position that an intervention edits."""

from pathlib import Path

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.architecture import read_architecture
    from sinkorigin.interventions import measure
    from sinkorigin.models import load_model
    from sinkorigin.prompts import read_token_ids

    model = load_model(
        Path(snakemake.input.model).parent,
        device=snakemake.resources.device,
        dtype=snakemake.params.dtype,
        threads=snakemake.threads,
        trust_remote_code=snakemake.params.trust_remote_code,
    )
    measure(
        read_architecture(model, snakemake.wildcards.model),
        read_token_ids(snakemake.input.prompts),
        snakemake.output[0],
        model=snakemake.wildcards.model,
        intervention="baseline",
        kind="baseline",
        strength=None,
        layers=[],
        targets=snakemake.params.positions,
        batch=snakemake.params.batch,
    )
