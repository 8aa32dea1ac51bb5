"""Long tables come back a layer at a time, whatever the order of their rows, and arrays become tables without loss."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import grids
from sinkorigin.statistics.grids import from_rows, read_layers, to_table
from sinkorigin.tables import schema, table_writer

SCHEMA = schema(
    site=(pa.string(), "s"),
    layer=(pa.int32(), "l"),
    sequence=(pa.int32(), "n"),
    position=(pa.int32(), "t"),
    value=(pa.float32(), "v"),
    vector=(pa.list_(pa.float32()), "x"),
)
L, N, T = 4, 6, 3


def written(path, rows, group):
    """The table, with so many rows in a row group."""
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    with table_writer(path, SCHEMA) as writer:
        for first in range(0, len(rows), group):
            writer.write_table(table.slice(first, group))
    return path


def rows_of(site, missing=None):
    """By sequence, as an extraction writes; ``missing``: the (layer, sequence, position) of a null value."""
    return [
        {
            "site": site,
            "layer": layer,
            "sequence": n,
            "position": t,
            "value": None if (layer, n, t) == missing else 100 * layer + 10 * n + t,
            "vector": [layer, n, t],
        }
        for n in range(N)
        for layer in range(-1, L - 1)
        for t in range(T)
    ]


def layers_of(path, **where):
    return {
        layer: (points, columns)
        for layer, points, columns in read_layers(
            path, axes=("sequence", "position"), columns=("value", "vector"), site="b", **where
        )
    }


@pytest.mark.parametrize("at_once", [1, 2**22])
@pytest.mark.parametrize("order", ["by sequence", "shuffled"])
def test_layers_are_the_same_whatever_the_order_of_rows_and_the_size_of_a_pass(order, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "_AT_ONCE", at_once)
    rows = rows_of("a") + rows_of("b", missing=(1, 2, 0))
    if order == "shuffled":
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    found = layers_of(written(tmp_path / "t.parquet", rows, group=7))
    assert list(found) == [-1, 0, 1, 2]
    n, t = np.ogrid[:N, :T]
    for layer, (points, columns) in found.items():
        expected = (100 * layer + 10 * n + t).astype(float)
        if layer == 1:
            expected[2, 0] = np.nan
        np.testing.assert_array_equal(columns["value"], expected)
        np.testing.assert_array_equal(columns["vector"][..., 0], layer)
        np.testing.assert_array_equal(columns["vector"][..., 1], n + 0 * t)
        np.testing.assert_array_equal(points["position"], range(T))
    (first,) = (columns["value"] for _, columns in [layers_of(tmp_path / "t.parquet", position=0)[0]])
    np.testing.assert_array_equal(first, 10 * n)


@pytest.mark.parametrize("damage", ["missing", "twice"])
def test_a_layer_that_is_no_full_grid_is_told(damage, tmp_path):
    rows = rows_of("b")
    rows[8] = rows[7]
    path = written(tmp_path / "t.parquet", rows[:8] + rows[9:] if damage == "missing" else rows, group=10)
    with pytest.raises(SinkoriginError, match=r"t.parquet: layer 1 has 1[78] rows for 6 x 3 \(sequence, position\)"):
        layers_of(path)


def test_columns_keep_nulls_texts_and_truths():
    table = to_table(
        schema(
            name=(pa.string(), ""), note=(pa.string(), ""), number=(pa.int32(), ""), truth=(pa.bool_(), ""),
            value=(pa.float64(), ""),
        ),
        name="m", note=None, number=np.array([3, None, 5], dtype=object), truth=[True, False, None],
        value=np.array([0.5, np.nan, -1.0]),
    )  # fmt: skip
    assert pl.from_arrow(table).to_dicts() == [
        {"name": "m", "note": None, "number": 3, "truth": True, "value": 0.5},
        {"name": "m", "note": None, "number": None, "truth": False, "value": None},
        {"name": "m", "note": None, "number": 5, "truth": None, "value": -1.0},
    ]
    assert table.equals(from_rows(table.schema, table.to_pylist()))


@pytest.mark.parametrize("value", [0.5, 2**40])
def test_a_number_that_a_column_cannot_hold_is_refused(value):
    one = schema(number=(pa.int32(), ""))
    with pytest.raises(ValueError, match="truncated|not in range"):
        to_table(one, number=np.array([1, value]))
    with pytest.raises(ValueError, match="truncated|not in range"):
        from_rows(one, [{"number": 1}, {"number": value}])


def test_numbers_of_several_types_in_one_column_keep_their_values():
    table = from_rows(schema(value=(pa.float64(), "")), [{"value": np.int64(1)}, {"value": np.float64(2.5)}])
    assert table["value"].to_pylist() == [1.0, 2.5]


def test_lists_of_different_lengths_are_rows_of_a_list_column():
    table = from_rows(schema(layers=(pa.list_(pa.int32()), "")), [{"layers": [0, 1]}, {"layers": [2]}, {"layers": []}])
    assert table["layers"].to_pylist() == [[0, 1], [2], []]


def test_a_column_of_lists_of_which_one_is_null_is_none(tmp_path):
    rows = rows_of("b")
    rows[4]["vector"] = None
    layers = layers_of(written(tmp_path / "t.parquet", rows, group=100))
    assert all(columns["vector"] is None for _, columns in layers.values())
