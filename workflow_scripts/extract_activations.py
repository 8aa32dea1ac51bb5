"""Run one model over one prompt set and write its activations and attention scores."""

import os
from pathlib import Path

from harness.job import job

# Arrow's own allocator gives memory back to the system between any two writes of an extraction and takes it again page by page,
# which is a fifth of the processor time where every site is kept. Read when pyarrow is imported.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

with job(snakemake, "sinkorigin.activations.pipeline"):
    from sinkorigin.activations.pipeline import extract
    from sinkorigin.activations.writers import Kept
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
    sites = {kept["site"]: Kept(kept["sequences"], kept["positions"]) for kept in snakemake.params.sites}
    extract(
        read_architecture(model, snakemake.wildcards.model, list(sites)),
        read_token_ids(snakemake.input.prompts),
        model=snakemake.wildcards.model,
        sites=sites,
        batch=snakemake.params.batch,
        activations=Path(snakemake.output.magnitudes).parent,
        scores=snakemake.output.scores,
        workers=1 if snakemake.resources.device == "mps" else snakemake.threads,
    )
