"""Train a byte-level BPE tokenizer on the corpus' training split."""

from harness.job import job

with job(snakemake):
    from sinkorigin.pretraining.data import training_texts
    from sinkorigin.pretraining.tokenizer import train_tokenizer

    train_tokenizer(training_texts(snakemake.input.corpus), snakemake.params.vocabulary, snakemake.output.files)
