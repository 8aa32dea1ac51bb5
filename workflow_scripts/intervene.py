"""Run one edit at one strength in one model and measure what happens at its target."""

from pathlib import Path

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.models import check_model_layers, load_model

    edit = snakemake.params.edit
    check_model_layers(
        Path(snakemake.input.model).parent, edit["layers"], f"interventions.{snakemake.wildcards.intervention}.layers"
    )
    from sinkorigin.architecture import read_architecture
    from sinkorigin.interventions import measure
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
        intervention=snakemake.wildcards.intervention,
        kind=edit["kind"],
        strength=float(snakemake.wildcards.strength),
        layers=edit["layers"],
        targets=[edit["position"]],
        batch=snakemake.params.batch,
    )
