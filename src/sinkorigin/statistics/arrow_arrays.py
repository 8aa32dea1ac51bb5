"""Between Arrow and NumPy through their buffers.

PyArrow's own ``array`` and ``to_numpy`` look for pandas and import it: a quarter of the time of a job that otherwise
needs neither.
"""

import numpy as np
import pyarrow as pa


def to_numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The values of a column, read-only.

    Returns:
        Numbers in their own type, or float64 with NaN where any is null; strings as objects, with None where null.
    """
    if pa.types.is_string(column.type):
        nothing = column.null_count == len(column)  # as of most notes
        return np.full(len(column), None) if nothing else np.array(column.to_pylist(), dtype=object)
    parts = [_numbers(chunk) for chunk in _chunks(column)]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype=column.type.to_pandas_dtype())


def equal_to(column: pa.Array | pa.ChunkedArray, value: object) -> np.ndarray:
    """(rows,) whether a column of numbers, or of dictionary-encoded strings, has this value."""
    if not pa.types.is_dictionary(column.type):
        return to_numpy(column) == value
    parts = []
    for chunk in _chunks(column):
        words = chunk.dictionary.to_pylist()
        parts.append(_numbers(chunk.indices) == (words.index(value) if value in words else -1))
    return np.concatenate(parts) if parts else np.empty(0, dtype=bool)


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def _numbers(array: pa.Array) -> np.ndarray:
    if not array.null_count:
        return np.from_dlpack(array)
    validity, values = array.buffers()
    known = np.unpackbits(np.frombuffer(validity, dtype=np.uint8), bitorder="little")
    known = known[array.offset : array.offset + len(array)].astype(bool)
    filled = pa.Array.from_buffers(array.type, len(array), [None, values], offset=array.offset)
    return np.where(known, np.from_dlpack(filled).astype(np.float64), np.nan)


def list_values(lists: pa.ListArray | pa.FixedSizeListArray) -> np.ndarray:
    """The numbers of all lists, one after the other; no list is null."""
    if pa.types.is_fixed_size_list(lists.type):
        size = lists.type.list_size
        return _numbers(lists.values.slice(lists.offset * size, len(lists) * size))
    ends = to_numpy(lists.offsets)
    return _numbers(lists.values.slice(ends[0], ends[-1] - ends[0]))


def lists_to_numpy(column: pa.ChunkedArray) -> np.ndarray | None:
    """(rows, width) numbers of a column of equally long lists; None where any is null."""
    if column.null_count:
        return None
    values = [list_values(chunk) for chunk in column.chunks]
    joined = values[0] if len(values) == 1 else np.concatenate(values)
    return joined.reshape(len(column), -1)


def to_arrow(values: np.ndarray, type_: pa.DataType) -> pa.Array:
    """A column from (rows,) values; NaN and None become null.

    Raises:
        ValueError: a value cannot be cast to the type without loss.
    """
    if values.dtype == object:
        missing = np.array([value is None or value != value for value in values], dtype=bool)
    elif values.dtype.kind == "f":
        missing = np.isnan(values)
    else:
        missing = np.zeros(len(values), dtype=bool)
    validity = pa.py_buffer(np.packbits(~missing, bitorder="little")) if missing.any() else None
    if pa.types.is_string(type_):
        texts = [b"" if absent else value.encode() for value, absent in zip(values.tolist(), missing, strict=True)]
        return _strings(texts, validity)
    if pa.types.is_boolean(type_):
        bits = np.packbits(np.where(missing, False, values).astype(bool), bitorder="little")
        return pa.Array.from_buffers(type_, len(values), [validity, pa.py_buffer(bits)])
    filled = np.where(missing, 0, values) if validity else values
    data = filled.astype(type_.to_pandas_dtype())
    if pa.types.is_integer(type_) and (data != filled).any():
        raise ValueError(f"a value is no {type_}: {filled[data != filled][0]}")
    return pa.Array.from_buffers(type_, len(values), [validity, pa.py_buffer(np.ascontiguousarray(data))])


def repeated_text(text: str | None, rows: int) -> pa.Array:
    """A column of one text in every row."""
    return pa.nulls(rows, pa.string()) if text is None else _strings([text.encode()] * rows, None)


def _strings(encoded: list[bytes], validity: pa.Buffer | None) -> pa.Array:
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64).astype(np.int32)
    buffers = [validity, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)
