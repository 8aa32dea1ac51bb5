"""A few documents made into what a training reads: a table of documents, a tokenizer and token files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin.pretraining.data import tokenize_documents
from sinkorigin.pretraining.tokenizer import train_tokenizer


def make_corpus(root: Path, texts: list[str]) -> Path:
    """Write ``documents.parquet``, ``tokenizer`` and ``tokens`` into ``root``; the last of ``texts`` is held out."""
    splits = ["train"] * (len(texts) - 1) + ["validation"]
    columns = {"document": [str(number) for number in range(len(texts))], "split": splits, "text": texts}
    pq.write_table(pa.table(columns), root / "documents.parquet")
    train_tokenizer(texts[:-1], 300, root / "tokenizer")
    tokenize_documents(root / "documents.parquet", root / "tokenizer", root / "tokens")
    return root
