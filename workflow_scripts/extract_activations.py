"""Run one model over one prompt set and write its activations and attention scores."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.activations.capture import Kept, extract
    from sinkorigin.corpora.prompts import read_token_ids
    from sinkorigin.models.loading import load_model
    from sinkorigin.sites.architecture import read_architecture

    model = load_model(
        Path(snakemake.input.model).parent,
        device=snakemake.resources.device,
        dtype=snakemake.params.dtype,
        threads=snakemake.threads,
        trust_remote_code=snakemake.params.trust_remote_code,
        gpus=snakemake.resources.gpu,
    )
    extract(
        read_architecture(model, snakemake.wildcards.model),
        read_token_ids(snakemake.input.prompts),
        model=snakemake.wildcards.model,
        sites={kept["site"]: Kept(kept["sequences"], kept["positions"]) for kept in snakemake.params.sites},
        batch=snakemake.params.batch,
        activations=Path(snakemake.output.magnitudes).parent,
        scores=snakemake.output.scores,
        workers=snakemake.threads,
    )
