"""Take the tokenizer that the config names for some data."""

from pathlib import Path

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.pretraining.taken_tokenizer import take_tokenizer

    take_tokenizer(
        snakemake.params.tokenizer,
        Path(snakemake.output[0]).parent,
        what=f"tokenizer of data {snakemake.wildcards.data}",
    )
