"""What a model lacks is a file that says so, and everything made from that file says it too."""

import pyarrow as pa
import pytest

from harness.job import job
from scripts_by_hand import run_script, seen_by_a_script
from sinkorigin import tables
from sinkorigin.figures import style
from sinkorigin.statistics import sinks

SCHEMA = tables.schema(content=(pa.string(), "a text"))
REASON = "the model has no BOS token"


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "results" / "study"


def test_an_empty_table_and_an_empty_directory_say_why_and_can_be_verified(results):
    table, manifest = results / "prompts/m/p.parquet", results / "activations/m/p/site/manifest.json"
    tables.write_not_applicable(table, REASON, SCHEMA)
    tables.write_not_applicable(manifest, REASON)
    for path in (table, manifest):
        assert tables.not_applicable(path) == REASON
        tables.verify(path)
    found = tables.read_table(table)
    assert len(found) == 0 and found.schema.with_metadata(None).equals(SCHEMA, check_metadata=True)
    assert list(tables.checked_directory(manifest.parent).iterdir()) == [manifest]
    before = table.read_bytes()
    tables.write_not_applicable(table, REASON, SCHEMA)
    assert table.read_bytes() == before


def test_the_reason_is_part_of_what_the_seal_covers(results):
    path = results / "prompts/m/p.parquet"
    tables.write_not_applicable(path, REASON, SCHEMA)
    path.write_bytes(path.read_bytes().replace(b"no BOS token", b"no XXX token"))
    with pytest.raises(tables.SinkoriginError, match="damaged or was changed"):
        tables.verify(path)


def test_a_table_with_rows_or_without_is_applicable_unless_it_says_otherwise(results):
    for name, rows in (("some", ["a"]), ("none", [])):
        tables.write_table(results / f"{name}.parquet", {"content": pa.array(rows, pa.string())}, SCHEMA)
        assert tables.not_applicable(results / f"{name}.parquet") is None


def test_a_job_of_a_model_on_prompts_passes_the_reason_on_and_its_body_does_not_run(results):
    scores = results / "attention/m/p/scores.parquet"
    tables.write_not_applicable(scores, REASON, SCHEMA)
    outputs = {name: results / f"statistics/m/p/{name}.parquet" for name in sinks.TABLES}
    with pytest.raises(SystemExit) as ended:
        run_script(
            "compute.py", results.parent, inputs={"scores": scores}, outputs=outputs, params={"statistic": "sinks"},
            model="m", prompts="p",
        )  # fmt: skip
    assert ended.value.code == 0
    for name, path in outputs.items():
        tables.verify(path)
        assert tables.not_applicable(path) == REASON
        assert tables.read_table(path).schema.names == sinks.TABLES[name].names
    log = (results.parent / "job.log").read_text()
    assert f"not applicable: {REASON}" in log and "at most" in log.splitlines()[-1]
    # made from the scores that are there now, and from no others
    tables.write_not_applicable(scores, "another reason", SCHEMA)
    with pytest.raises(tables.SinkoriginError, match="was made from another"):
        tables.verify(outputs["sinks"])


def test_directories_are_passed_on_as_empty_ones_with_their_lists(results):
    prompts = results / "prompts/m/p.parquet"
    tables.write_not_applicable(prompts, REASON, SCHEMA)
    folder = results / "interventions/m/p/edited"
    outputs = {"files": folder, "list": folder / tables.LIST}
    seen = seen_by_a_script(
        results.parent / "job.log", inputs={"prompts": prompts}, outputs=outputs, model="m", prompts="p"
    )
    with pytest.raises(SystemExit) as ended, job(seen):
        raise AssertionError("the body ran")
    assert ended.value.code == 0
    tables.verify(folder / tables.LIST)
    assert tables.not_applicable(folder / tables.LIST) == REASON


def test_a_job_that_reads_several_models_runs(results):
    table = results / "statistics/m/p/norms.parquet"
    tables.write_not_applicable(table, REASON, SCHEMA)
    ran = []
    with job(seen_by_a_script(results.parent / "job.log", inputs={"norms": [table]})):
        ran.append(True)
    assert ran


def drawn(results, paths) -> str:
    """A figure of sinks by position from tables at these places."""
    params = {"figure": "loss_curves", "keywords": {"groups": {"softmax": "text"}}, "sample": "", "lacks": []}
    figure = results / "figures/loss_curves.svg"
    run_script("plot.py", results.parent, inputs={"history": paths}, outputs={"figure": figure}, params=params)
    return figure.read_text()


def test_figures_leave_out_what_is_not_applicable_and_say_so_where_nothing_is_left(results):
    schema = tables.schema(
        run=(pa.string(), ""), variant=(pa.string(), ""), seed=(pa.int64(), ""), step=(pa.int64(), ""),
        tokens=(pa.int64(), ""), train_loss=(pa.float64(), ""), validation_loss=(pa.float64(), ""),
    )  # fmt: skip
    rows = {"run": ["softmax"], "variant": ["softmax"], "seed": [0], "step": [1], "tokens": [10]}
    rows |= {"train_loss": [3.0], "validation_loss": [3.0]}
    there, lacking = results / "there.parquet", results / "lacking.parquet"
    tables.write_table(there, rows, schema)
    tables.write_not_applicable(lacking, REASON, SCHEMA)  # of another schema: it cannot be joined to the rest
    assert drawn(results, [there]) == drawn(results, [there, lacking])
    style.save(style.without_data(f"not applicable: {REASON}"), [results / "expected.svg"])
    assert drawn(results, [lacking]) == (results / "expected.svg").read_text()
