"""What is written is verified when it is read: damage of any byte, and files of another model, are refused by name."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.verification import record_outputs, verify_figures, verify_study
from sinkorigin import tables
from sinkorigin.errors import SinkoriginError

SCHEMA = tables.schema(
    model=(pa.string(), "name of the model"),
    layer=(pa.int32(), "layer"),
    vector=(pa.list_(pa.float32()), "a vector"),
)


def columns(model="tiny", rows=50):
    vectors = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    return {"model": [model] * rows, "layer": np.arange(rows, dtype=np.int32), "vector": list(vectors)}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The working directory of a study."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "_verified", set())
    for model in ("tiny", "other"):
        folder = tmp_path / "results/study" / model
        tables.write_table(folder / "norms.parquet", columns(model), SCHEMA)
        tables.write_json(folder / "provenance.json", {"model": model, "label": model.title()})
        with tables.atomic_directory(folder / "residual") as partial:
            for layer in range(2):
                tables.write_table(partial / f"layer={layer}" / "part-0.parquet", columns(model), SCHEMA)
    return tmp_path / "results/study"


FILES = ["tiny/norms.parquet", "tiny/provenance.json", "tiny/residual/manifest.json"]


def flipped(path, place):
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1 << place % 8
    path.write_bytes(raw)


def written_from(inputs, path):
    """Write a table as a job does that reads ``inputs``."""
    tables.record_inputs(tables.hashes_by_place(inputs))
    try:
        tables.write_table(path, columns(rows=3), SCHEMA)
    finally:
        tables.record_inputs({})


def followed(error):
    """Do what the message says."""
    [path] = re.findall(r"delete (\S+) and run the same command again", str(error))
    assert (tables.Path(path)).exists(), error
    shutil.rmtree(path) if tables.Path(path).is_dir() else tables.Path(path).unlink()
    return path


@pytest.mark.parametrize("file", FILES)
def test_a_healthy_file_is_verified(results, file):
    tables.verify(results / file)


def test_one_flipped_bit_anywhere_in_a_table_is_refused(results):
    path = results / "tiny/norms.parquet"
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped(path, place)
        with pytest.raises(SinkoriginError, match=r"norms\.parquet .*; delete \S+norms\.parquet and run"):
            tables.verify(path)
        path.write_bytes(whole)


def test_one_flipped_bit_in_a_raw_file_of_a_directory_is_refused(results):
    path = results / "tiny/residual/layer=1/part-0.parquet"
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        flipped(path, place)
        with pytest.raises(SinkoriginError, match="sha256 is not that of its manifest") as error:
            tables.checked_directory(results / "tiny/residual")
        path.write_bytes(whole)
    assert followed(error.value).endswith("tiny/residual")


def test_what_is_to_be_deleted_is_what_is_made_again_as_a_whole(results):
    edited = results / "edited"
    with tables.atomic_directory(edited / "mask/strength=1") as partial:
        tables.write_table(partial / "scores.parquet", columns(), SCHEMA)
    tables.write_manifest(edited, name=tables.LIST, pattern="*.parquet")
    (results / "manifest.json").write_text('{"name": "a web site"}')
    for name in ("mask/strength=1/scores.parquet", "mask/strength=1/manifest.json", tables.LIST):
        assert tables.remedy(edited / name) == f"delete {edited} and run the same command again"
    for name in ("norms.parquet", "provenance.json"):
        assert tables.remedy(results / "tiny" / name) == f"delete {results}/tiny/{name} and run the same command again"


@pytest.mark.parametrize("file", [name for name in FILES if name.endswith(".json")])
@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"files": {}}', '{"seal": []}', '{"seal": {"sha256": 1}}'])
def test_json_that_says_nothing_is_refused(results, file, text):
    (results / file).write_text(text)
    with pytest.raises(SinkoriginError, match="missing or no file of this workflow|sha256") as error:
        tables.verify(results / file)
    followed(error.value)


@pytest.mark.parametrize("file", [name for name in FILES if name.endswith(".json")])
def test_a_changed_fact_in_json_is_refused(results, file):
    facts = json.loads((results / file).read_text())
    facts["label" if "label" in facts else "files"] = {}
    (results / file).write_text(json.dumps(facts))
    with pytest.raises(SinkoriginError, match="is damaged or was changed"):
        tables.verify(results / file)


@pytest.mark.parametrize("file", FILES)
def test_the_file_of_another_model_is_refused(results, file):
    source, target = results / file.replace("tiny", "other"), results / file
    if target.name == "manifest.json":
        shutil.rmtree(target.parent)
        shutil.copytree(source.parent, target.parent)
    else:
        shutil.copyfile(source, target)
    with pytest.raises(SinkoriginError, match=f"was written as {file.replace('tiny', 'other')}; delete"):
        tables.verify(target)


def test_a_table_that_was_written_elsewhere_is_refused(results):
    pa.parquet.write_table(pa.table({"model": ["tiny"]}), results / "tiny/norms.parquet")
    with pytest.raises(SinkoriginError, match="is no table of this workflow"):
        tables.verify(results / "tiny/norms.parquet")


def test_a_table_that_was_made_from_another_input_than_is_there_is_refused(results):
    magnitudes, manifest = results / "tiny/magnitudes.parquet", results.parent / "models/tiny/manifest.json"
    manifest.parent.mkdir(parents=True)
    tables.write_json(manifest, {"files": {}})
    tables.write_table(magnitudes, columns(rows=5), SCHEMA)
    written_from([magnitudes, manifest], results / "tiny/norms.parquet")
    tables.verify(results / "tiny/norms.parquet")
    tables.write_table(magnitudes, columns(rows=6), SCHEMA)
    with pytest.raises(
        SinkoriginError, match=r"norms\.parquet was made from another .*/tiny/magnitudes\.parquet than"
    ) as error:
        tables.verify(results / "tiny/norms.parquet")
    assert followed(error.value).endswith("norms.parquet")


def test_inputs_that_are_not_on_this_machine_are_not_looked_at(results):
    magnitudes = results / "tiny/magnitudes.parquet"
    tables.write_table(magnitudes, columns(rows=5), SCHEMA)
    written_from([magnitudes], results / "tiny/norms.parquet")
    magnitudes.unlink()
    tables.verify(results / "tiny/norms.parquet")


def test_a_study_may_be_renamed(results):
    results.rename(results.with_name("renamed"))
    for file in FILES:
        tables.verify(results.with_name("renamed") / file)


def test_a_process_computes_a_hash_once_and_again_when_the_file_changes(results, monkeypatch):
    path, calls = results / "tiny/norms.parquet", []
    original = tables._hash_without
    monkeypatch.setattr(tables, "_hash_without", lambda *of: calls.append(of) or original(*of))
    tables.verify(path)
    tables.verify(path)
    assert len(calls) == 1
    flipped(path, 100)
    with pytest.raises(SinkoriginError):
        tables.verify(path)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        tables.write_table(tmp_path / name / "results/study/norms.parquet", columns(), SCHEMA)
    assert (tmp_path / "one/results/study/norms.parquet").read_bytes() == (
        tmp_path / "two/results/study/norms.parquet"
    ).read_bytes()


def test_verifying_a_study_names_every_damaged_file_and_no_other(results):
    figure, log = results / "figures/norms.svg", results / "logs/plot_norms.log"
    for path, text in ((figure, "<svg/>"), (log, "")):
        path.parent.mkdir()
        path.write_text(text)
    log.write_text("drawn\n" + record_outputs([str(figure)]))
    files = {str(results / file): None for file in FILES} | {str(figure): str(log)}
    assert verify_study(files, threads=2) == []
    figure.write_text("<svG/>")
    flipped(results / "tiny/norms.parquet", 20)
    (results / "tiny/provenance.json").unlink()
    wrong = verify_study(files, threads=2)
    assert [re.search(r"(\w+\.\w+) (is|does)", sentence)[1] for sentence in wrong] == [
        "norms.parquet", "provenance.json", "norms.svg",
    ]  # fmt: skip


def test_a_page_refuses_a_damaged_figure_and_takes_one_whose_log_is_elsewhere(results):
    figure, log = results / "figures/norms.svg", results / "logs/plot_norms.log"
    for path in (figure, log):
        path.parent.mkdir()
    figure.write_text("<svg/>")
    log.write_text(record_outputs([str(figure)]))
    verify_figures([str(figure)], {"plot_norms": str(log)})
    figure.write_text("<svG/>")
    with pytest.raises(SinkoriginError, match=rf"norms.svg is damaged or was changed: .*; delete {figure} and run"):
        verify_figures([str(figure)], {"plot_norms": str(log)})
    figure.with_suffix(".png").write_text("more")
    log.write_text(log.read_text() + log.read_text().replace(".svg", ".png"))
    with pytest.raises(SinkoriginError, match=r"\(and 1 more, which `snakemake verify` names\): "):
        verify_figures([str(figure), str(figure.with_suffix(".png"))], {"plot_norms": str(log)})
    log.unlink()
    verify_figures([str(figure)], {"plot_norms": str(log)})
    verify_figures([str(figure)], {})


@pytest.mark.parametrize(("compressed", "codec"), [(True, "ZSTD"), (False, "UNCOMPRESSED")])
def test_numbers_are_stored_as_they_are_only_where_a_table_is_not_compressed(compressed, codec, tmp_path):
    table = pa.table(columns(), schema=SCHEMA)
    with tables.table_writer(tmp_path / "t.parquet", SCHEMA, compressed=compressed) as writer:
        writer.write_table(table)
    group = pq.read_metadata(tmp_path / "t.parquet").row_group(0)
    vectors = next(c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema.startswith("vector"))
    assert vectors.compression == codec
    assert ("BYTE_STREAM_SPLIT" in vectors.encodings) == compressed
    assert tables.read_table(tmp_path / "t.parquet").equals(table)
