"""Make a stream of the bigram-backcopy task: its tokenizer and its token files."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.pretraining.bigram_backcopy import make_bigram_backcopy

    make_bigram_backcopy(
        snakemake.input.corpus,
        Path(snakemake.output.tokenizer).parent,
        Path(snakemake.output.tokens).parent,
        **snakemake.params.task,
    )
