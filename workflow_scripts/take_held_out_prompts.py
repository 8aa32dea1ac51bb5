"""Draw one prompt set for a model that was trained here, from the validation split of its own data."""

from pathlib import Path

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.pretraining.held_out import make_held_out_prompts

    make_held_out_prompts(
        snakemake.output[0],
        model=snakemake.wildcards.model,
        directory=Path(snakemake.input.model).parent,
        tokens_directory=Path(snakemake.input.tokens).parent,
        first_token=snakemake.params.first_token,
        **{key: snakemake.params.prompts[key] for key in ("sequences", "length", "seed")},
    )
