"""One script computes every statistic: by name, with what its rule names, and nothing else."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from test_statistics import magnitudes

from scripts_by_hand import run_script
from sinkorigin.statistics.disparity import DISPARITY_BY_LAYER_SCHEMA, DISPARITY_SCHEMA, MASSIVE_SCHEMA
from sinkorigin.statistics.registry import STATISTICS
from sinkorigin.tables import read_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", STATISTICS)
def test_a_registered_statistic_computes_tables_from_the_inputs_and_settings_of_a_rule(name):
    first, *settings = inspect.signature(import_module(f"sinkorigin.statistics.{name}").compute).parameters.values()
    assert first.name == "inputs"
    assert all(setting.kind == setting.KEYWORD_ONLY and setting.default is setting.empty for setting in settings)


def test_every_registered_statistic_has_one_rule():
    """The effects of interventions have another one for the few edits of the first look."""
    rules = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    assert sorted(re.findall(r'statistic(?:=|\()"(\w+)"', rules)) == sorted([*STATISTICS, "interventions"])


def test_the_script_writes_every_table_with_its_schema(tmp_path):
    path = magnitudes(tmp_path / "magnitudes.parquet", np.random.default_rng(0).normal(size=(2, 4, 3, 5)))
    schemas = {
        "disparity": DISPARITY_SCHEMA,
        "disparity_by_layer": DISPARITY_BY_LAYER_SCHEMA,
        "massive_activations": MASSIVE_SCHEMA,
    }
    outputs = {name: tmp_path / "made" / f"{name}.parquet" for name in schemas}
    params = {"statistic": "disparity", "replicates": 20, "seed": 0}
    run_script(
        "compute.py", tmp_path, inputs={"magnitudes": path}, outputs=outputs, params=params, model="m", prompts="p"
    )
    for name, schema in schemas.items():
        table = read_table(outputs[name])
        assert table.schema.with_metadata(None).equals(schema, check_metadata=True), name
        assert set(table["model"].to_pylist()) == {"m"} and set(table["prompts"].to_pylist()) == {"p"}
