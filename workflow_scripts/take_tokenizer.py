"""Take the tokenizer that the config names for some data."""

from harness.job import job

with job(snakemake):
    from sinkorigin.pretraining.tokenizer import take_tokenizer

    take_tokenizer(
        snakemake.params.tokenizer, snakemake.output.files, what=f"tokenizer of data {snakemake.wildcards.data}"
    )
