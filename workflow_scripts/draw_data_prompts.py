"""Draw one prompt set for the models that are trained here on the same data."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.pretraining.prompts import make_data_prompts

    make_data_prompts(
        snakemake.output[0],
        data=snakemake.wildcards.data,
        tokenizer_directory=Path(snakemake.input.tokenizer).parent,
        tokens_directory=Path(snakemake.input.tokens).parent,
        trained_with_first_token=snakemake.wildcards.start == "first_token",
        **{key: snakemake.params.prompts[key] for key in ("kind", "sequences", "length", "seed", "first_token")},
    )
