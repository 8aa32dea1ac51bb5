"""Files of a study: Parquet tables, JSON files, and directories of them, which are written whole and can be verified.

Every table carries the meaning of each column in its schema, and appears under its final name only when it is complete. It is
zstd-compressed with byte-stream-split floats, but for raw activations, whose numbers are stored as they are.

A directory has a manifest with the size and sha256 of each of its files. A table outside such a directory, and every JSON
file, has a *seal*: the sha256 of the file, computed with zeros in the place of the hash; the file's place in the study
(``statistics/{model}/{prompts}/norms.parquet``); and the places and hashes of what its job read. :func:`verify` compares
these, so that a damaged file, the table of another model, and one that was made from other inputs than are there now are
refused.

What is not defined for a model (prompts that begin with BOS, of a model without one) is a file too: an empty table, or a
manifest without files, that says why. :func:`not_applicable` reads that, and what is made from such a file is one as well.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin.errors import FULL_DISK, SinkoriginError

MANIFEST = "manifest.json"
SEALED = (".parquet", ".json")  # files with a seal
LIST = "interventions.json"  # the manifest of a folder of interventions, each of which has a MANIFEST too

_HASH_KEY, _PLACE_KEY, _INPUTS_KEY = "sinkorigin.sha256", "sinkorigin.place", "sinkorigin.inputs"
_REASON_KEY = "sinkorigin.not_applicable"
_NO_INTERVALS_KEY = "sinkorigin.no_intervals"
_NO_HASH = "0" * 64  # stands in place of a file's hash while it is computed
_BLOCK = 1 << 20


def schema(**columns: tuple[pa.DataType, str]) -> pa.Schema:
    """An Arrow schema whose fields carry their description: ``schema(layer=(pa.int32(), "layer, counted from 0"))``."""
    return pa.schema([pa.field(name, type_, metadata={"description": text}) for name, (type_, text) in columns.items()])


def _is_partial(path: Path) -> bool:
    """Whether a path lies in a directory that is being written, whose manifest will have the file's hash."""
    return any(part.startswith(".") and part.endswith(".partial") for part in path.parts[:-1])


def place_of(path: str | Path) -> str:
    """Place of a file in its study: its path below ``results/{study}``, or from ``models`` on; "" elsewhere.

    It does not name the study, so that a study can be renamed and can share its files with others.
    """
    parts = Path(path).parts
    if "results" not in parts[:-1]:
        return ""
    below = parts[len(parts) - parts[::-1].index("results") :]
    return "/".join(below if below[0] == "models" else below[1:])


_inputs: dict[str, str] = {}  # place → hash of each file that the job of this process reads


def hashes_by_place(paths: Iterable[str | Path]) -> dict[str, str]:
    """Place → hash of files that have a seal."""
    return {place_of(path): _seal_of(Path(path)).sha256 for path in paths}


def record_inputs(hashes: Mapping[str, str]) -> None:
    """Record what the job reads, place → hash, in the seal of every file that this process writes from now on."""
    _inputs.clear()
    _inputs.update(hashes)


def recorded_inputs() -> dict[str, str]:
    """Inputs that were recorded last, for a process that writes on behalf of this one."""
    return dict(_inputs)


def _inputs_at(place: str) -> dict[str, str]:
    """Inputs that a file at this place records: none in a hidden folder, whose files outlive the job that made them."""
    hidden = any(part.startswith(".") for part in place.split("/"))
    return {} if hidden or not place else dict(_inputs)


def _float_leaves(schema_: pa.Schema) -> list[str]:
    """Parquet column paths of the floating-point leaves, for byte-stream-split."""
    leaves = []
    for field in schema_:
        nested = isinstance(field.type, pa.FixedSizeListType | pa.ListType)
        leaf = field.type.value_type if nested else field.type
        if pa.types.is_floating(leaf):
            leaves.append(f"{field.name}.list.element" if nested else field.name)
    return leaves


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a hidden path to write a file or directory at; it takes its final name when the block ends, or is removed.

    Raises:
        SinkoriginError: the disk is full.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        if partial.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    except BaseException as error:
        _remove(partial)
        # safetensors raises an exception that has the number in its text only
        if any(getattr(error, "errno", None) == code or f"os error {code})" in str(error) for code in FULL_DISK):
            raise SinkoriginError(
                f"{path}: the disk is full; free some space and run the same command again"
            ) from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def table_writer(path: str | Path, schema_: pa.Schema, *, compressed: bool = True) -> Iterator[pq.ParquetWriter]:
    """Open a streaming Parquet writer whose file takes its final name only when the block ends without an exception.

    Each call of ``writer.write_table`` or ``writer.write_batch`` inside the block becomes one row group.

    Args:
        compressed: whether numbers are compressed; without, they are stored as they are in memory.

    Raises:
        SinkoriginError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    floats = _float_leaves(schema_) if compressed else []
    texts = [field.name for field in schema_ if pa.types.is_string(field.type)]
    flat = [field.name for field in schema_ if not pa.types.is_nested(field.type)]  # minima of vectors have no use
    with written_whole(path) as partial:
        with pq.ParquetWriter(
            partial,
            schema_,
            compression="zstd" if compressed else "none",
            compression_level=1 if compressed else None,
            # a row group of an extraction is one page, which is compressed best; one that is not goes through the processor's cache
            data_page_size=2**22 if compressed else 2**18,
            use_dictionary=texts,
            use_byte_stream_split=floats,
            write_statistics=flat,
        ) as writer:
            yield writer
            if not _is_partial(path):
                inputs = json.dumps(_inputs_at(place_of(path)))
                writer.add_key_value_metadata({_HASH_KEY: _NO_HASH, _PLACE_KEY: place_of(path), _INPUTS_KEY: inputs})
        if not _is_partial(path):
            _seal(partial)


def write_table(
    path: str | Path, columns: Mapping[str, object] | pa.Table, schema_: pa.Schema, *, no_intervals: str | None = None
) -> None:
    """Write a table in memory, which is an Arrow table or a mapping of column names to arrays, as one row group.

    Args:
        no_intervals: why the ends of its intervals are null, for :func:`no_intervals`.

    Raises:
        ValueError: a column is missing, unknown, or of a type that cannot be cast without loss.
        SinkoriginError: the disk is full.
    """
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    if set(table.column_names) != set(schema_.names):
        raise ValueError(f"{path}: columns {sorted(table.column_names)} do not match {sorted(schema_.names)}")
    table = table.select(schema_.names)
    if table.schema != schema_:
        table = table.cast(schema_)  # only where needed: it imports pyarrow.compute
    with table_writer(path, schema_) as writer:
        writer.write_table(table)
        if no_intervals is not None:
            writer.add_key_value_metadata({_NO_INTERVALS_KEY: no_intervals})


def write_not_applicable(path: str | Path, reason: str, schema_: pa.Schema | None = None) -> None:
    """Write an empty table of a schema, or the manifest of an empty directory, that says why there is nothing.

    Args:
        path: of the table, or of the manifest.
        reason: why what should be there is not defined, in words that claims and figures repeat.
        schema_: of the table.

    Raises:
        SinkoriginError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        write_json(path, {"files": {}, "not_applicable": reason})
        return
    with table_writer(path, pa.schema([]) if schema_ is None else schema_) as writer:
        writer.add_key_value_metadata({_REASON_KEY: reason})


def not_applicable(path: str | Path) -> str | None:
    """Why a table, or the directory of a manifest, holds nothing; None where it holds what its name says.

    Raises:
        SinkoriginError: it is missing, or damaged.
    """
    path = Path(path)
    return read_json(path).get("not_applicable") if path.suffix == ".json" else _fact(path, _REASON_KEY)


def no_intervals(path: str | Path) -> str | None:
    """Why no quantity of a table has an interval: too few documents to resample; None where the table has intervals.

    Raises:
        SinkoriginError: it is missing, or damaged.
    """
    return _fact(Path(path), _NO_INTERVALS_KEY)


def _fact(path: Path, key: str) -> str | None:
    """What the metadata of a Parquet file say under a key."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; {remedy(path)}") from error
    found = metadata.get(key.encode())
    return None if found is None else found.decode()


def _hash_offset(path: Path) -> int | None:
    """Offset of the hash in a table's seal, in bytes; None where the file has no seal."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 8))
        end = stream.read(8)
        footer = int.from_bytes(end[:4], "little")
        if end[4:] != b"PAR1" or footer > size - 8:
            return None
        stream.seek(size - 8 - footer)
        found = stream.read(footer).rfind(_HASH_KEY.encode())
    # a key is followed by a byte for the type of its value and one for the value's length
    return None if found < 0 else size - 8 - footer + found + len(_HASH_KEY) + 2


def _hash_without(path: Path, offset: int) -> tuple[str, str]:
    """The sha256 of a file with zeros in place of the hash at ``offset``, and that hash."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        left = offset
        while block := stream.read(min(left, _BLOCK)):
            digest.update(block)
            left -= len(block)
        recorded = stream.read(len(_NO_HASH))
        digest.update(_NO_HASH.encode())
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest(), recorded.decode("ascii", "replace")


def _seal(path: Path) -> None:
    """Write a table's hash into its footer."""
    offset = _hash_offset(path)
    assert offset is not None
    found, recorded = _hash_without(path, offset)
    assert recorded == _NO_HASH
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(found.encode())


def write_text(path: str | Path, text: str) -> None:
    """Write a text file that takes its final name only when it is complete.

    Raises:
        SinkoriginError: the disk is full.
    """
    with written_whole(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, facts: Mapping[str, Any], place: str | None = None) -> None:
    """Write facts as JSON with a seal.

    Args:
        facts: without a key ``seal``.
        place: place in the study of a file that will be moved; by default that of ``path``.

    Raises:
        SinkoriginError: the disk is full.
    """
    place = place_of(path) if place is None else place
    sealed = {**facts, "seal": {"place": place, "inputs": _inputs_at(place)}}
    sealed["seal"]["sha256"] = hashlib.sha256(json.dumps(sealed).encode()).hexdigest()
    write_text(path, json.dumps(sealed, indent=1) + "\n")


@dataclass(frozen=True)
class _Seal:
    """Seal of a file: its hash, its place in the study, and place → hash of the files that it was made from."""

    sha256: str
    place: str
    inputs: Mapping[str, str]


def _read_sealed(path: Path) -> tuple[dict[str, Any], _Seal]:
    """Read facts and seal of a JSON file that :func:`write_json` wrote.

    Raises:
        SinkoriginError: it is missing, no JSON, or does not have the hash of its seal.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        seal = _Seal(facts["seal"].pop("sha256"), facts["seal"]["place"], facts["seal"]["inputs"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SinkoriginError(f"{path} is missing or no file of this workflow; {remedy(path)}") from error
    if hashlib.sha256(json.dumps(facts).encode()).hexdigest() != seal.sha256:
        raise SinkoriginError(f"{path} is damaged or was changed: its sha256 is not that of its seal; {remedy(path)}")
    del facts["seal"]
    return facts, seal


def read_json(path: str | Path) -> dict[str, Any]:
    """Read facts that :func:`write_json` wrote.

    Raises:
        SinkoriginError: the file is missing, or damaged.
    """
    return _read_sealed(Path(path))[0]


def file_hash(path: str | Path) -> str:
    """The sha256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _map(function: Callable, items: list, threads: int) -> list:
    """Results of a function for all items, in their order, computed on so many threads."""
    if threads == 1 or len(items) < 2:
        return list(map(function, items))
    from concurrent.futures import ThreadPoolExecutor  # not above: most jobs hash one small file, or none

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def write_manifest(
    directory: Path, threads: int = 1, *, name: str = MANIFEST, pattern: str = "*", place: str | None = None
) -> None:
    """List every file under a directory with its size and sha256.

    Args:
        threads: number of threads that compute hashes, here and in all functions of this module.
        name: name of the list.
        pattern: pattern of the names of the files.
        place: place in the study of the list of a directory that will be moved; by default where it is written.
    """
    files = [file for file in sorted(directory.rglob(pattern)) if file.is_file() and file != directory / name]
    hashes = _map(file_hash, files, threads)
    facts = {
        file.relative_to(directory).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256}
        for file, sha256 in zip(files, hashes, strict=True)
    }
    write_json(directory / name, {"files": facts}, place)


@contextmanager
def atomic_directory(path: str | Path, threads: int = 1) -> Iterator[Path]:
    """Make a directory that appears under its final name whole, with a manifest of its files, or not at all.

    Yields a temporary directory beside it to write into. When the block ends, the manifest is written and the directory
    takes its final name, replacing an older one.

    Raises:
        SinkoriginError: the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        _remove(partial)  # left by a killed run
        partial.mkdir()
        yield partial
        write_manifest(partial, threads, place=place_of(path / MANIFEST))


def remedy(path: Path) -> str:
    """Sentence on a file that cannot be used: delete what the workflow makes as a whole, and run again.

    That is the topmost directory around it whose manifest lists the file (or, if the file is a manifest, files of its
    directory); else the file.
    """
    whole = found = path.parent if path.name in (MANIFEST, LIST) else path
    for parent in found.parents:
        listed = found.relative_to(parent).as_posix()
        for name in (MANIFEST, LIST):
            try:
                files = json.loads((parent / name).read_text(encoding="utf-8"))["files"]
                if any(file == listed or str(file).startswith(f"{listed}/") for file in files):
                    whole = parent
            except (
                OSError,
                ValueError,
                TypeError,
                KeyError,
                RecursionError,
            ):  # missing, damaged, or not of this project
                continue
    return f"delete {whole} and run the same command again"


_verified: set[tuple[Path, int, int]] = set()  # states of files that this process has verified


def _state(path: Path) -> tuple[Path, int, int]:
    """Path, size and time of a file: while they stay, its content is taken to be the same."""
    facts = path.stat()
    return path.absolute(), facts.st_size, facts.st_mtime_ns


def checked_directory(path: str | Path, threads: int = 1, *, name: str = MANIFEST, unread: str | None = None) -> Path:
    """Check that every file of a directory's manifest is there with its size and sha256; the directory.

    A process computes the hash of a file once.

    Args:
        name: name of the manifest.
        unread: pattern of files that the caller does not read, whose hashes are not compared.

    Raises:
        SinkoriginError: the manifest or one of its files is missing, or damaged.
    """
    path = Path(path)
    files = _read_sealed(path / name)[0]["files"]

    def check(entry: tuple[str, dict]) -> None:
        file, facts = path / entry[0], entry[1]
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            raise SinkoriginError(
                f"{file} is missing or does not have the {facts['bytes']} bytes of its manifest; {remedy(file)}"
            )
        if unread is not None and file.match(unread):
            return
        if (state := _state(file)) not in _verified:
            if file_hash(file) != facts["sha256"]:
                raise SinkoriginError(
                    f"{file} is damaged or was changed: its sha256 is not that of its manifest; {remedy(file)}"
                )
            _verified.add(state)

    _map(check, list(files.items()), threads)
    return path


def _check_table(path: Path) -> None:
    """Check that a table has the hash of its seal; one in a directory with a manifest has none.

    Raises:
        SinkoriginError: it is missing, not Parquet, or damaged.
    """
    try:
        if (state := _state(path)) in _verified:
            return
        offset = _hash_offset(path)
        found, recorded = ("", None) if offset is None else _hash_without(path, offset)
    except OSError as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; {remedy(path)}") from error
    if found != recorded:
        what = "is no table of this workflow" if recorded is None else "is damaged or was changed"
        raise SinkoriginError(f"{path} {what}: it does not have the sha256 of its seal; {remedy(path)}")
    _verified.add(state)


def _seal_of(path: Path) -> _Seal:
    """Read the seal of a file; the content of a table is not compared with it."""
    try:
        return _read_seal(path, _state(path))
    except OSError as error:
        raise SinkoriginError(f"{path} is missing; {remedy(path)}") from error


@cache
def _read_seal(path: Path, state: tuple[Path, int, int]) -> _Seal:
    if path.suffix == ".json":
        return _read_sealed(path)[1]
    try:
        metadata = pq.read_metadata(path).metadata or {}
        hash_, place, inputs = (metadata[key.encode()].decode() for key in (_HASH_KEY, _PLACE_KEY, _INPUTS_KEY))
        return _Seal(hash_, place, json.loads(inputs))
    except (OSError, ValueError, KeyError) as error:
        raise SinkoriginError(f"{path} is no table of this workflow; {remedy(path)}") from error


def _at(place: str, path: Path) -> Path:
    """Path of the file at a place in the study that ``path`` belongs to."""
    known = place_of(path)
    root = path.parents[len(Path(known).parts) - 1]  # results/{study}, or results for a model
    if place.startswith("models/") and not known.startswith("models/"):
        root = root.parent
    return root / place


def verify(path: str | Path, threads: int = 1, *, at: Path | None = None, unread: str | None = None) -> None:
    """Check a file of a study: its content, its place, and what it was made from.

    Inputs that are not there any more, or not on this machine, are left out.

    Args:
        path: a table, a JSON file with a seal, or a manifest, which stands for its directory.
        at: where the file will lie in the study, if not at ``path``.
        unread: as in :func:`checked_directory`.

    Raises:
        SinkoriginError: it is missing or damaged, belongs to another model, prompt set or rule, or was made from another
            version of an input than is there now.
    """
    path = Path(path)
    if path.name in (MANIFEST, LIST):
        checked_directory(path.parent, threads, name=path.name, unread=unread)
    elif path.suffix != ".json":
        _check_table(path)
    seal, at = _seal_of(path), path if at is None else at
    if seal.place != place_of(at):
        raise SinkoriginError(f"{path} was written as {seal.place or 'a file of no study'}; {remedy(path)}")
    for place, sha256 in seal.inputs.items():
        source = _at(place, at)
        if source.is_file() and _seal_of(source).sha256 != sha256:
            raise SinkoriginError(f"{path} was made from another {source} than is there now; {remedy(path)}")


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole table that this module wrote, or some of its columns.

    Raises:
        SinkoriginError: the file is missing, truncated, not Parquet, or lacks one of ``columns``.
    """
    path = Path(path)
    try:
        with pq.ParquetFile(path) as file:  # pyarrow's read_table imports its data sets and pandas
            table = file.read(columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; {remedy(path)}") from error
    if columns is not None and set(columns) - set(table.column_names):
        raise SinkoriginError(f"{path} lacks the column {min(set(columns) - set(table.column_names))}; {remedy(path)}")
    return table
