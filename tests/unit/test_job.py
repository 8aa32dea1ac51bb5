"""A job says which code it ran and what it took, and ends with one sentence whatever becomes of its log."""

import sys
import time
from pathlib import Path

import pytest

from harness.job import Record, job, peak_memory
from scripts_by_hand import SCRIPTS, seen_by_a_script
from sinkorigin.errors import SinkoriginError


def end_of(snakemake, capfd, error=None):
    """What the terminal gets of a job whose script raises ``error``."""
    with pytest.raises(SystemExit) as ended, job(snakemake):
        if error is not None:
            raise error
    assert ended.value.code == 1
    return capfd.readouterr().err


def test_a_job_says_how_long_it_took_with_its_imports_and_how_much_memory(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    began = time.perf_counter()
    with job(seen_by_a_script(tmp_path / "job.log")):
        time.sleep(0.1)
        import slow_to_import  # noqa: F401
    wall = time.perf_counter() - began
    record = Record.read(tmp_path / "job.log")
    assert 0.4 <= record.seconds <= wall
    assert record.memory == pytest.approx(peak_memory(), rel=0.05) and record.gpu_memory == 0


def test_a_log_begins_with_the_code_that_ran(tmp_path, monkeypatch):
    for folder, shown in ((SCRIPTS.parent, "workflow_scripts"), (tmp_path, str(SCRIPTS))):
        monkeypatch.chdir(folder)
        with job(seen_by_a_script(tmp_path / "job.log")):
            pass
        first = (tmp_path / "job.log").read_text().splitlines()[0]
        assert first == f"code in {shown}, version 0123456789abcdef"


def test_a_library_of_another_checkout_is_refused_with_its_version(tmp_path, capfd):
    said = end_of(seen_by_a_script(tmp_path / "job.log", scripts=tmp_path / "other"), capfd)
    assert said == (
        f"sinkorigin: rule a_rule: the workflow's scripts are in {tmp_path}/other and need the library of the same checkout, but "
        f"sinkorigin 0.1.0 was imported from {SCRIPTS.parent}/src; uninstall that ({sys.executable} -m pip uninstall sinkorigin), "
        f"and get {tmp_path}/src back if it is missing\n"
    )


FULL = Path("/dev/full")  # every write fails as on a full disk


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_the_sentence_comes_when_the_disk_is_full(capfd):
    assert end_of(seen_by_a_script(FULL), capfd, SinkoriginError("what is wrong")) == "sinkorigin: what is wrong\n"
    full = "sinkorigin: rule a_rule: No space left on device; fix this and run the same command again\n"
    assert end_of(seen_by_a_script(FULL), capfd) == full  # the record at the end of a job that did its work
    assert end_of(seen_by_a_script(FULL), capfd, OSError(28, "No space left on device")) == full


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_traceback_that_the_log_cannot_take_is_on_the_terminal(capfd):
    said = end_of(seen_by_a_script(FULL), capfd, ZeroDivisionError("a defect")).splitlines()
    assert said[0] == (
        "sinkorigin: rule a_rule ended with an unexpected ZeroDivisionError: a defect; /dev/full cannot be written, so the "
        "traceback follows"
    )
    assert said[1].startswith("Traceback") and said[-1] == "ZeroDivisionError: a defect"


def test_a_defect_names_the_log_that_has_its_traceback(tmp_path, capfd):
    said = end_of(seen_by_a_script(tmp_path / "job.log"), capfd, ZeroDivisionError("a defect"))
    assert said == (
        "sinkorigin: rule a_rule ended with an unexpected ZeroDivisionError: a defect; the traceback is in "
        f"{tmp_path}/job.log\n"
    )
    assert "Traceback" in (tmp_path / "job.log").read_text()


def test_a_log_that_cannot_be_opened_is_told_in_a_sentence(tmp_path, capfd):
    (tmp_path / "results").write_text("a file")
    (tmp_path / "folder.log").mkdir()
    for log, reason in (
        (tmp_path / "results/logs/job.log", "Not a directory"),
        (tmp_path / "folder.log", "Is a directory"),
    ):
        said = end_of(seen_by_a_script(log), capfd)
        assert said == f"sinkorigin: {log} cannot be written: {reason}; fix this and run the same command again\n"
