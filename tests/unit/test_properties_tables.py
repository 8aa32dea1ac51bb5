"""Tables and JSON files hold what was written, whatever it is, or nothing."""

import json
import math
from functools import cache

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.table_catalogue import tables as all_tables
from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics.grids import LayeredTable, from_rows, read_layers, to_table

SCHEMAS = cache(all_tables)
floats = st.one_of(st.floats(width=32), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.8e308]))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def values_of(type_: pa.DataType) -> st.SearchStrategy:
    """Values of a column, null among them."""
    if pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_):
        length = type_.list_size if pa.types.is_fixed_size_list(type_) else None
        element = values_of(type_.value_type)
        if not type_.value_field.nullable:  # vectors of activations, which are never null themselves
            return st.lists(element.filter(lambda value: value is not None), min_size=length, max_size=length)
        return st.one_of(st.none(), st.lists(element, min_size=length or 0, max_size=3 if length is None else length))
    if pa.types.is_floating(type_):
        return st.one_of(st.none(), floats if type_.bit_width == 64 else st.floats(width=type_.bit_width))
    if pa.types.is_integer(type_):
        info = np.iinfo(type_.to_pandas_dtype())
        return st.one_of(
            st.none(), st.integers(int(info.min), int(info.max)), st.sampled_from([int(info.min), int(info.max)])
        )
    if pa.types.is_boolean(type_):
        return st.one_of(st.none(), st.booleans())
    assert pa.types.is_string(type_), type_
    return st.one_of(st.none(), texts)


def written_and_read(path, table):
    tables.write_table(path, table, table.schema)
    tables.verify(path)
    return tables.read_table(path)


def bits(table: pa.Table) -> list:
    """Columns by the bits of their numbers, so that NaN is NaN and −0 is not 0."""
    return [repr(column.to_pylist()) for column in table.columns]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "results/study").mkdir(parents=True)
    return folder / "results/study"


@settings(max_examples=2 * settings().max_examples)
@given(st.data())
def test_every_table_of_a_study_holds_what_was_written(folder, data):
    schema = SCHEMAS()[data.draw(st.sampled_from(sorted(SCHEMAS())))]
    rows = data.draw(st.integers(0, 3))
    # a few columns hold drawn values, which are what costs time
    drawn = data.draw(st.sets(st.sampled_from(schema.names), max_size=3))
    drawn |= {field.name for field in schema if pa.types.is_fixed_size_list(field.type)}
    columns = [
        pa.array(
            data.draw(st.lists(values_of(field.type), min_size=rows, max_size=rows))
            if field.name in drawn
            else [None] * rows,
            field.type,
        )
        for field in schema
    ]
    table = pa.table(columns, schema=schema)
    found = written_and_read(folder / "table.parquet", table)
    assert bits(found) == bits(table)
    assert found.schema.equals(schema, check_metadata=False)
    assert [field.metadata[b"description"] for field in found.schema if field.metadata] == [
        field.metadata[b"description"] for field in schema if field.metadata
    ]
    before = (folder / "table.parquet").read_bytes()
    tables.write_table(folder / "table.parquet", found, schema)
    assert (folder / "table.parquet").read_bytes() == before
    some = sorted(drawn)
    assert bits(tables.read_table(folder / "table.parquet", some)) == bits(table.select(some)) or not some


@pytest.mark.parametrize(
    "type_",
    [
        pa.float64(),
        pa.float32(),
        pa.int32(),
        pa.int64(),
        pa.bool_(),
        pa.string(),
        pa.list_(pa.float32()),
        pa.list_(pa.int32()),
        pa.list_(pa.string()),
        pa.list_(pa.float64(), 3),
    ],
)
def test_a_column_of_each_type_holds_what_was_written(type_, folder):
    @given(st.lists(values_of(type_), max_size=8))
    def holds(values):
        table = pa.table({"c": pa.array(values, type_)})
        found = written_and_read(folder / "column.parquet", table)
        assert bits(found) == bits(table) and found.schema.equals(table.schema)

    holds()


@given(st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_a_table_or_directory_appears_whole_or_not_at_all(folder, groups, broken_at, there_before):
    schema = pa.schema({"n": pa.int64()})
    table, directory = folder / "whole.parquet", folder / "whole"
    if there_before:
        tables.write_table(table, {"n": [7]}, schema)
    else:
        table.unlink(missing_ok=True)
    before = table.read_bytes() if there_before else None

    def write(path):
        with tables.table_writer(path, schema) as writer:
            for group in range(groups):
                if group == broken_at:
                    raise KeyboardInterrupt
                writer.write_table(pa.table({"n": [group]}))

    for attempt in (lambda: write(table), lambda: in_directory(directory, write)):
        if broken_at < groups:
            with pytest.raises(KeyboardInterrupt):
                attempt()
        else:
            attempt()
    names = {path.name for path in folder.iterdir()}
    assert not any(name.endswith(".partial") for name in names)
    if broken_at < groups:
        assert (table.read_bytes() if table.exists() else None) == before
    else:
        assert tables.read_table(table)["n"].to_pylist() == list(range(groups))
        assert tables.read_table(tables.checked_directory(directory) / "a" / "n.parquet")["n"].to_pylist() == list(
            range(groups)
        )


def in_directory(directory, write):
    with tables.atomic_directory(directory) as partial:
        write(partial / "a" / "n.parquet")


facts = st.dictionaries(
    texts.filter(lambda key: key != "seal"),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts),
        lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(texts, inside, max_size=3)),
        max_leaves=6,
    ),
    max_size=4,
)


@given(facts)
def test_json_files_hold_what_was_written(folder, written):
    tables.write_json(folder / "facts.json", written)
    tables.verify(folder / "facts.json")
    assert tables.read_json(folder / "facts.json") == written


@given(facts, facts)
def test_json_files_that_were_edited_are_refused(folder, written, others):
    tables.write_json(folder / "facts.json", written)
    text = json.loads((folder / "facts.json").read_text())
    edited = {**others, "seal": text["seal"]}
    (folder / "facts.json").write_text(json.dumps(edited))
    if json.dumps(edited) == json.dumps(text):
        assert tables.read_json(folder / "facts.json") == written
    else:
        with pytest.raises(SinkoriginError, match="is damaged or was changed: its sha256 is not that of its seal"):
            tables.read_json(folder / "facts.json")


GRID = tables.schema(
    layer=(pa.int32(), "layer"), x=(pa.int32(), "x"), y=(pa.int32(), "y"), value=(pa.float64(), "value")
)


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 7))
def test_a_grid_is_read_in_its_order_however_its_rows_were_written(
    folder, data, layers, width, height, rows_of_a_group
):
    values = data.draw(arrays(np.float64, (layers, width, height), elements=st.floats(-9, 9)))
    number = np.arange(layers)[:, None, None] * 2
    table = to_table(GRID, layer=number, x=np.arange(width)[:, None] + 5, y=np.arange(height), value=values)
    order = data.draw(st.permutations(range(table.num_rows)))
    with tables.table_writer(folder / "grid.parquet", GRID) as writer:
        for start in range(0, len(order), rows_of_a_group):
            writer.write_table(table.take(pa.array(order[start : start + rows_of_a_group])))
    found = list(read_layers(folder / "grid.parquet", axes=("x", "y"), columns=("value",)))
    assert [layer for layer, _, _ in found] == [2 * n for n in range(layers)]
    for (_, points, columns), expected in zip(found, values, strict=True):
        assert points["x"].tolist() == [5 + n for n in range(width)] and points["y"].tolist() == list(range(height))
        np.testing.assert_array_equal(columns["value"], expected)
    some = LayeredTable(folder / "grid.parquet", ["value"], x=5).rows(0)["value"]
    assert sorted(some) == sorted(values[0, 0])
    if width * height > 1:
        left_out = table.take(pa.array(order[:-1]))
        tables.write_table(folder / "grid.parquet", left_out, GRID)
        with pytest.raises(SinkoriginError, match=r"layer \d has \d+ rows for") if not _full(left_out) else _nothing():
            list(read_layers(folder / "grid.parquet", axes=("x", "y"), columns=("value",)))


def _full(table: pa.Table) -> bool:
    """Whether each layer of a table still has a row for each point of its grid."""
    by_layer = pl.DataFrame(table).group_by("layer").agg(pl.len(), pl.col("x").n_unique(), pl.col("y").n_unique())
    return bool((by_layer["len"] == by_layer["x"] * by_layer["y"]).all())


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "layer": st.integers(0, 9),
                "x": st.one_of(st.none(), st.integers(0, 9)),
                "y": st.just(1),
                "value": st.one_of(st.none(), floats),
            }
        ),
        max_size=5,
    )
)
def test_rows_become_a_table_with_null_for_what_is_no_number(rows):
    found = from_rows(GRID, rows).to_pylist()
    expected = [
        {name: None if value is None or value != value else value for name, value in row.items()} for row in rows
    ]
    assert found == expected
    arrays_ = {
        name: np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
        for name in GRID.names
    }
    assert to_table(GRID, **arrays_).to_pylist() == expected
