"""The Parquet contracts: one writer, atomic and streaming, and the directories that hold several files.

Every table is zstd-compressed with byte-stream-split floats, carries the meaning of each column in its schema, and
appears under its final name only when it is complete.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin.errors import SinkoriginError

MANIFEST = "manifest.json"


def schema(**columns: tuple[pa.DataType, str]) -> pa.Schema:
    """An Arrow schema whose fields carry their description: ``schema(layer=(pa.int32(), "layer, counted from 0"))``."""
    return pa.schema([pa.field(name, type_, metadata={"description": text}) for name, (type_, text) in columns.items()])


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _float_leaves(schema_: pa.Schema) -> list[str]:
    """Parquet column paths of the floating-point leaves, for byte-stream-split."""
    leaves = []
    for field in schema_:
        nested = isinstance(field.type, pa.FixedSizeListType | pa.ListType)
        leaf = field.type.value_type if nested else field.type
        if pa.types.is_floating(leaf):
            leaves.append(f"{field.name}.list.element" if nested else field.name)
    return leaves


def _raise_if_full(path: Path, error: BaseException) -> None:
    full = {errno.ENOSPC, errno.EDQUOT}
    # safetensors has an exception of its own, and the number in its text only
    if getattr(error, "errno", None) in full or any(f"os error {number})" in str(error) for number in full):
        raise SinkoriginError(f"{path}: the disk is full; free some space and run the same command again") from error


@contextmanager
def table_writer(path: str | Path, schema_: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A streaming Parquet writer whose file takes its final name only when the block ends without an exception.

    Use ``writer.write_table`` or ``writer.write_batch`` inside the block; each call becomes one row group.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    floats = _float_leaves(schema_)
    texts = [field.name for field in schema_ if pa.types.is_string(field.type)]
    flat = [field.name for field in schema_ if not pa.types.is_nested(field.type)]  # nobody asks for a vector's minimum
    try:
        with pq.ParquetWriter(
            partial,
            schema_,
            compression="zstd",
            compression_level=1,
            data_page_size=2**22,  # a row group of an extraction is one page then, which is faster and smaller
            use_dictionary=texts,
            use_byte_stream_split=floats,
            write_statistics=flat,
        ) as writer:
            yield writer
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        _raise_if_full(path, error)
        raise
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_table(path: str | Path, columns: Mapping[str, object] | pa.Table, schema_: pa.Schema) -> None:
    """Write one in-memory table (a mapping of column name to array, or an Arrow table) atomically.

    Raises:
        ValueError: a column is missing, unknown, or of a type that cannot be cast without loss.
    """
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    if set(table.column_names) != set(schema_.names):
        raise ValueError(f"{path}: columns {sorted(table.column_names)} do not match {sorted(schema_.names)}")
    table = table.select(schema_.names)
    if table.schema != schema_:
        table = table.cast(schema_)  # imports pyarrow.compute, a tenth of a small job's time
    with table_writer(path, schema_) as writer:
        writer.write_table(table)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file that takes its final name only when it is complete."""
    path = Path(path)
    partial = _partial(path)
    partial.write_text(text)
    os.replace(partial, path)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(directory: Path, threads: int = 1) -> None:
    """List every file under a directory with its size and sha256; the list itself takes its name when it is complete."""
    files = [file for file in sorted(directory.rglob("*")) if file.is_file() and file != directory / MANIFEST]
    if threads == 1:
        hashes = list(map(_sha256, files))
    else:
        from concurrent.futures import ThreadPoolExecutor  # not above: most jobs hash one small file, or none

        with ThreadPoolExecutor(threads) as pool:
            hashes = list(pool.map(_sha256, files))
    facts = {
        file.relative_to(directory).as_posix(): {"bytes": file.stat().st_size, "sha256": sha256}
        for file, sha256 in zip(files, hashes, strict=True)
    }
    write_text(directory / MANIFEST, json.dumps(facts, indent=1) + "\n")


@contextmanager
def atomic_directory(path: str | Path, threads: int = 1) -> Iterator[Path]:
    """A directory that appears under its final name whole, with a manifest of its files, or not at all.

    Yields a temporary sibling to write into. When the block ends, ``manifest.json`` (each file's size and sha256, computed
    on so many threads) is written last and the directory takes its name, replacing an older one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed run
    partial.mkdir()
    try:
        yield partial
        write_manifest(partial, threads)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        _raise_if_full(path, error)
        raise


def checked_directory(path: str | Path) -> Path:
    """``path``, after checking that every file of its manifest is there with its size.

    Raises:
        SinkoriginError: the manifest or one of its files is missing, or has another size.
    """
    path = Path(path)
    try:
        files = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise SinkoriginError(
            f"{path / MANIFEST} is missing or unreadable; delete the directory and run the same command again"
        ) from error
    for name, facts in files.items():
        file = path / name
        if not file.is_file() or file.stat().st_size != facts["bytes"]:
            raise SinkoriginError(
                f"{file} is missing or does not have the {facts['bytes']} bytes of its manifest; "
                f"delete {path} and run the same command again"
            )
    return path


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole table that this module wrote, or some of its columns.

    Raises:
        SinkoriginError: the file is missing, truncated, not Parquet, or lacks one of ``columns``.
    """
    try:
        with pq.ParquetFile(path) as file:  # pyarrow's own read_table imports its data sets and pandas
            table = file.read(columns=columns)
        if columns is not None and set(columns) - set(table.column_names):
            raise SinkoriginError(
                f"{path} lacks the column {min(set(columns) - set(table.column_names))}; delete it and run the same "
                "command again"
            )
        return table
    except (OSError, pa.ArrowInvalid) as error:
        raise SinkoriginError(f"{path} cannot be read as Parquet; delete it and run the same command again") from error
