"""Train a byte-level BPE tokenizer on the corpus' training split."""

from pathlib import Path

from sinkorigin.job import job

with job(snakemake):
    from sinkorigin.pretraining.tokenizer import train_tokenizer
    from sinkorigin.tables import read_table

    documents = read_table(snakemake.input.corpus).to_pylist()
    train_tokenizer(
        (document["text"] for document in documents if document["split"] == "train"),
        snakemake.params.vocabulary,
        Path(snakemake.output[0]).parent,
    )
