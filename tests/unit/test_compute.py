"""One script computes every statistic: by name, with what its rule names, and nothing else."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from test_statistics import magnitudes

from scripts_by_hand import run_script
from sinkorigin.corpora.prompts import write_prompts
from sinkorigin.statistics.disparity import DISPARITY_BY_LAYER_SCHEMA, DISPARITY_SCHEMA, MASSIVE_SCHEMA
from sinkorigin.statistics.registry import STATISTICS
from sinkorigin.tables import no_intervals, read_table

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


SCHEMAS = {
    "disparity": DISPARITY_SCHEMA,
    "disparity_by_layer": DISPARITY_BY_LAYER_SCHEMA,
    "massive_activations": MASSIVE_SCHEMA,
}


def computed(folder, documents):
    """Tables that the script makes of as many sequences as there are documents, in the order of ``SCHEMAS``."""
    values = np.random.default_rng(0).normal(size=(2, len(documents), 3, 5))
    path = magnitudes(folder / "magnitudes.parquet", values)
    token_ids = np.zeros((len(documents), 3), dtype=int)
    write_prompts(folder / "prompts.parquet", token_ids, None, None if None in documents else documents)
    outputs = {name: folder / "made" / f"{name}.parquet" for name in SCHEMAS}
    params = {"statistic": "disparity", "replicates": 20, "seed": 0}
    inputs = {"magnitudes": path, "prompts": folder / "prompts.parquet"}
    run_script("compute.py", folder, inputs=inputs, outputs=outputs, params=params, model="m", prompts="p")
    return list(outputs.values())


def test_the_script_writes_every_table_with_its_schema(tmp_path):
    for path, schema in zip(computed(tmp_path, [None] * 4), SCHEMAS.values(), strict=True):
        table = read_table(path)
        assert table.schema.with_metadata(None).equals(schema, check_metadata=True), path
        assert set(table["model"].to_pylist()) == {"m"} and set(table["prompts"].to_pylist()) == {"p"}
        assert no_intervals(path) is None


def test_text_of_few_documents_has_values_without_intervals_and_the_tables_say_why(tmp_path):
    path = computed(tmp_path, ["a", "b", "c", "d"] * 3)[0]
    table = read_table(path)
    assert table["dominance_ratio"].null_count == 0
    assert table["dominance_ratio_low"].null_count == table["dominance_ratio_high"].null_count == len(table)
    assert no_intervals(path) == (
        "its 12 sequences come from 4 documents, and an interval needs 8 or more; raise corpus.validation_share, or take a corpus of "
        "more documents"
    )
