"""What is seen of a run while it goes on, and what is left when it fails or is killed: a workflow of a few jobs that takes no model."""

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from tiny_study import ROOT, wait_until

SNAKEFILE = f"""
import sys

sys.path[:0] = ["{ROOT}/src", "{ROOT}/workflow_scripts"]
from functools import partial

from harness import snakemake_internals as internals
from harness.resources import Needs

internals.tell_finished_jobs(workflow, {{"write": lambda wildcards: Needs(memory=1, seconds=100.0)}})
internals.before_first_job(workflow, partial(internals.remove_outputs, workflow, ["page.html"]))


rule page:
    input:
        "a.txt",
        "b.txt",
    output:
        "page.html",
    shell:
        "cat {{input}} > {{output}}"


rule write:
    output:
        "{{letter}}.txt",
    shell:
        "LETTER={{wildcards.letter}}; . ./settings; echo $LETTER > {{output}}"


rule apart:  # in a process of its own, which reads this file again
    input:
        "page.html",
    output:
        "apart",
    run:
        shell("cp {{input}} {{output}}")
"""


class Workflow:
    """A folder with that workflow; ``settings`` are shell commands of its jobs."""

    def __init__(self, folder):
        self.folder, self.page = folder, folder / "page.html"
        (folder / "Snakefile").write_text(SNAKEFILE)
        self.set("true")

    def set(self, commands: str) -> None:
        (self.folder / "settings").write_text(commands)

    def start(self, *arguments: str, output: int) -> subprocess.Popen:
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
        environment = os.environ | {"NO_COLOR": "1", "COLUMNS": "120"}
        streams = {"stdout": output, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True, **streams)

    def run(self, *arguments: str) -> str:
        said, _ = self.start(*arguments, output=subprocess.PIPE).communicate(timeout=300)
        return said


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    return Workflow(tmp_path)


def told(said: str) -> list[tuple[str, str]]:
    """Count and job of each line on a finished job."""
    return re.findall(r"^\[(\d/\d)\] [\d:]{8}  (\w+(?: letter=\w)?) \(\d+ (?:s|min)\)", said, re.MULTILINE)


def test_each_finished_job_has_one_line_where_no_bars_are_drawn(workflow):
    workflow.set("sleep 1")
    said = workflow.run("--logger", "rich", "--", "apart")
    assert sorted(job for _, job in told(said)) == ["apart", "page", "write letter=a", "write letter=b"], said
    assert [count for count, _ in told(said)] == ["1/4", "2/4", "3/4", "4/4"]
    lines = [line for line in said.splitlines() if line.startswith("[")]
    assert re.search(r" – about \d+ (s|min) left$", lines[0]) and lines[-1].endswith(")")
    # files that are touched are not made, and stay
    assert told(workflow.run("--touch", "--forceall")) == [] and workflow.page.read_text() == "a\nb\n"


def test_on_a_terminal_the_bars_tell_it_and_no_line_does(workflow):
    workflow.set("sleep 0.4")  # bars are drawn eight times a second
    ours, its = pty.openpty()
    run = workflow.start("--logger", "rich", output=its)
    os.close(its)
    said = b""
    while True:
        try:
            said += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert run.wait() == 0
    text = re.sub(r"\x1b\[[\d;?]*\w", "", said.decode())
    assert re.search(r"─ [12] of 3 jobs, about \d+ (s|min) left ─", text) and not told(text), text


def test_a_module_has_its_lines_and_loses_its_old_page_when_a_job_fails(workflow):
    (workflow.folder / "importing").write_text(
        'module ours:\n    snakefile: "Snakefile"\nuse rule * from ours as ours_*\n'
    )
    workflow.page.write_text("of an earlier run")
    workflow.set("test $LETTER = a")
    said = workflow.run("--snakefile", "importing", "--forceall", "--keep-going", "--", "page.html")
    assert [job for _, job in told(said)] == ["ours_write letter=a"], said
    assert (workflow.folder / "a.txt").exists() and not workflow.page.exists()


def test_a_killed_run_leaves_no_page_of_an_earlier_one(workflow):
    workflow.page.write_text("of an earlier run")
    workflow.set("touch begun; sleep 60")
    run = workflow.start("--forceall", output=subprocess.DEVNULL)
    assert wait_until((workflow.folder / "begun").exists, 300)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not workflow.page.exists()
