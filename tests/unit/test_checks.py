"""What goes wrong around a run is told in one sentence."""

import pytest

from harness.checks import (
    ConfigFiles,
    check_folders,
    check_gpu,
    check_model_names,
    check_writable,
    ending_with_a_sentence,
    resolve_device,
)
from sinkorigin.errors import SinkoriginError
from sinkorigin.tables import write_json


def test_the_sentence_ends_the_process():
    with pytest.raises(SystemExit) as ended, ending_with_a_sentence():
        raise SinkoriginError("what is wrong")
    assert ended.value.code == "sinkorigin: what is wrong"


@pytest.mark.parametrize("place", ["results", "results/tiny/logs"])
def test_a_file_in_place_of_a_folder_is_named(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    files = ["results/tiny/logs/fetch_corpus.log", "results/tiny/corpus/documents.parquet"]
    check_folders(files)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("a file")
    with pytest.raises(
        SinkoriginError, match=f"^{place} is not a directory, but results are to lie in it; move it away"
    ):
        check_folders(files)


def test_the_gpu_of_a_mac_is_asked_for_by_name_and_refused_elsewhere(monkeypatch):
    assert resolve_device("mps") == "mps"
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(SinkoriginError, match="^mine.yaml: device is mps, .* this machine is none; set device: cpu"):
        check_gpu("mine.yaml", "mps")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    check_gpu("mine.yaml", "mps")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    check_writable(str(tmp_path / "results/tiny"))
    assert (tmp_path / "results/tiny").is_dir() and not list((tmp_path / "results/tiny").iterdir())
    with pytest.raises(SinkoriginError, match="^/proc/results cannot be written .*; give yourself the right"):
        check_writable("/proc/results")


def test_a_model_of_another_study_is_not_fetched_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    new = {"source": "hub:owner/model@two", "seed": 0}
    (tmp_path / "results/models").mkdir(parents=True)
    check_model_names({"tiny": new}, "mine", "mine.yaml")  # nothing is there yet
    write_json("results/models/tiny.provenance.json", {"config": new | {"source": "hub:owner/model@one"}})
    check_model_names({"tiny": new}, "mine", "mine.yaml")  # no study uses what is there
    (tmp_path / "results/mine/prompts/tiny").mkdir(parents=True)
    check_model_names({"tiny": new}, "mine", "mine.yaml")  # only this one does
    (tmp_path / "results/theirs/prompts/tiny").mkdir(parents=True)
    check_model_names({"tiny": new | {"source": "hub:owner/model@one"}}, "mine", "mine.yaml")
    with pytest.raises(
        SinkoriginError,
        match="^mine.yaml: model tiny has source hub:owner/model@two, but results/models/tiny was fetched with "
        "hub:owner/model@one and study theirs uses it; give the model another name in one of the studies, or delete results/theirs",
    ):
        check_model_names({"tiny": new}, "mine", "mine.yaml")


def test_config_files_that_were_edited_or_removed_during_a_run_are_named(tmp_path):
    files = [tmp_path / name for name in ("edited.yaml", "removed.yaml", "left.yaml", "never.yaml")]
    for file in files[:3]:
        file.write_text("study: mine\n")
    at_start = ConfigFiles(files)
    assert at_start.changes() == []
    files[0].write_text("study: other\n")
    files[1].unlink()
    assert [sentence.split(" was changed")[0] for sentence in at_start.changes()] == [
        f"sinkorigin: {file}" for file in files[:2]
    ]
