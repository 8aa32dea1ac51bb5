"""Documents of one file of a corpus: rows of JSON lines or Parquet, or pieces of text."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sinkorigin.corpora.files import kind_of
from sinkorigin.corpora.text_files import NOT_UTF8, opened, text_documents
from sinkorigin.errors import SinkoriginError, first_line, listed

LONGEST = 1 << 25  # characters of a line of JSON, or of a row's text in Parquet, at most
_AT_ONCE = 1 << 24  # bytes of text that are read of a Parquet file at once, at most


def _too_long(what: str, where: str) -> SinkoriginError:
    """The error of a document with too much text."""
    return SinkoriginError(
        f"{what}: {where} has more than {LONGEST} characters; split its document into several, or leave the file out by a "
        "leading ! in members"
    )


def _line_documents(path: Path, name: str, column: str, what: str) -> Iterator[tuple[str, str]]:
    """Name and text of every row of a file of JSON lines."""
    with (
        opened(path, name) as (stream, encoding),
        io.TextIOWrapper(stream, encoding, errors="surrogateescape") as lines,
    ):
        number = 0
        while line := lines.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise _too_long(what, f"line {number} of {name}")
            if not line.strip():
                continue
            if not line.isascii() and NOT_UTF8.search(line):
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


def _parquet_documents(path: Path, name: str, column: str, what: str) -> Iterator[tuple[str, str]]:
    """Name and text of every row of a Parquet file."""
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
        groups = sum(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        if groups != file.metadata.num_rows:
            raise OSError(f"its footer says {file.metadata.num_rows} rows, but its row groups have {groups}")
        number = 0
        for rows in file.iter_batches(batch_size=_rows_at_once(file.metadata, column, name, what), columns=[column]):
            for text in rows.column(0).to_pylist():
                number += 1
                if len(text or "") > LONGEST:
                    raise _too_long(what, f"{column} of row {number} of {name}")
                yield f"{name}, row {number}", text or ""
        if number != groups:
            raise OSError(f"its footer says {groups} rows, but {number} can be read")


def _rows_at_once(file: pq.FileMetaData, column: str, name: str, what: str) -> int:
    """Number of rows of a Parquet file to read at once, by the mean size of a text in the row group where that is largest."""
    index = next(i for i in range(file.num_columns) if file.schema.column(i).path == column)
    groups = map(file.row_group, range(file.num_row_groups))
    mean = max((group.column(index).total_uncompressed_size / max(group.num_rows, 1) for group in groups), default=1)
    if mean > 4 * LONGEST:  # bytes; refused before they are read
        raise _too_long(what, f"{column} of a row of {name}")
    return int(max(1, min(_AT_ONCE / max(mean, 1), 64)))


def documents_of(path: Path, name: str, column: str, what: str) -> Iterator[tuple[str, str]]:
    """Name and text of every document of a file of a corpus.

    Args:
        path, name: where the file is, and its name in the corpus, which decides its kind.
        column: column of Parquet files, or key of JSON lines, that holds the text.

    Raises:
        SinkoriginError: the file is damaged or of another kind, a text is too long, or there is no such column.
    """
    kind = kind_of(name)
    try:
        if kind == "parquet":
            yield from _parquet_documents(path, name, column, what)
        elif kind == "lines":
            yield from _line_documents(path, name, column, what)
        else:
            yield from text_documents(path, name, what)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        as_what = {"parquet": "Parquet", "lines": "JSON lines in UTF-8", "text": "text"}[kind]
        raise SinkoriginError(
            f"{what}: {name} cannot be read as {as_what} ({first_line(error)}); it is damaged or misnamed, get it "
            "again, or leave it out by a leading ! in members"
        ) from error
