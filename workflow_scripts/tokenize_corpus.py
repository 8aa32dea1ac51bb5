"""Turn the corpus into memory-mapped token files, one a split."""

from pathlib import Path

from harness.job import job

with job(snakemake):
    from sinkorigin.pretraining.data import tokenize_documents

    tokenize_documents(snakemake.input.corpus, Path(snakemake.input.tokenizer).parent, snakemake.output.files)
