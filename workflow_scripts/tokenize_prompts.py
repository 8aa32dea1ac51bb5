"""Draw one prompt set in the token ids of one model."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.corpora.prompts import make_prompts

    make_prompts(
        snakemake.output[0],
        model=snakemake.wildcards.model,
        directory=Path(snakemake.input.model).parent,
        corpus=snakemake.input.get("corpus"),
        unread=snakemake.params.unread,
        trust_remote_code=snakemake.params.trust_remote_code,
        **{key: snakemake.params.prompts[key] for key in ("kind", "sequences", "length", "seed", "first_token")},
    )
