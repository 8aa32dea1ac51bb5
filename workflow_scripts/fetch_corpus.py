"""Fetch a corpus as one table of documents, split into train and validation."""

from harness.job import job

with job(snakemake):
    from sinkorigin.corpora.fetching import fetch_corpus

    data = snakemake.wildcards.get("data")
    what = f"corpus of data {data}" if data else "corpus"
    fetch_corpus(snakemake.output[0], **snakemake.params.corpus, what=what)
