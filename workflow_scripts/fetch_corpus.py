"""Bring the corpus here as a table of documents, split into train and validation."""

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.sources import fetch_corpus

    fetch_corpus(snakemake.output[0], **snakemake.params.corpus)
