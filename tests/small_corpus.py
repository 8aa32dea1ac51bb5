"""A few documents made into what a training reads: a table of documents, a tokenizer and token files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin.pretraining.data import tokenize_documents
from sinkorigin.pretraining.tokenizer import train_tokenizer

WORDS = ["the", "king", "and", "queen", "of", "all", "this", "fair", "isle", "do", "greet", "thee", "my", "lord"]


def made_up_text(seed: int, words: int) -> str:
    """So many words, the same ones for a seed."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def make_corpus(root: Path, texts: list[str]) -> Path:
    """Write ``documents.parquet``, ``tokenizer`` and ``tokens`` into ``root``; the last of ``texts`` is held out."""
    splits = ["train"] * (len(texts) - 1) + ["validation"]
    columns = {"document": [str(number) for number in range(len(texts))], "split": splits, "text": texts}
    pq.write_table(pa.table(columns), root / "documents.parquet")
    train_tokenizer(texts[:-1], 300, root / "tokenizer")
    tokenize_documents(root / "documents.parquet", root / "tokenizer", root / "tokens")
    return root
