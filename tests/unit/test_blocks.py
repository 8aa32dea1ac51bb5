"""Every code block of README and documentation is run by a test, or says why not; every command is one that its program takes."""

import ast
import importlib
import json
import os
import re
import shlex
import sys

import pytest
import yaml

from blocks import blocks, run_by
from harness.config.merging import Layer, merge
from harness.config.reading import read_config
from tiny_study import ROOT, TINY

HERE = "tests/unit/test_blocks.py"


def sources(test: str) -> str:
    """Text of a file of tests, and of the modules of tests that it imports."""
    path = ROOT / test.partition("::")[0]
    imported = re.findall(r"^from (\w+) import", path.read_text(), re.MULTILINE)
    files = [path, *(ROOT / "tests" / f"{name}.py" for name in imported)]
    return "\n".join(file.read_text() for file in files if file.is_file())


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.page}: {block.first_line[:40]}")
def test_a_block_is_run_by_a_test_that_there_is_or_says_why_not(block):
    assert block.how or block.reason, "write above the block which test runs it, or why none does: tests/blocks.py"
    if block.reason:
        assert len(block.reason.split()) > 3
        return
    file, _, name = block.test.partition("::")
    functions = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert (name or "test_") in functions or (not name and any(one.startswith("test_") for one in functions))
    if block.how in ("run", "read"):  # with the text of the page
        named = block.page.rpartition("/")[2] in sources(block.test)
        assert named or "run_by(" in sources(block.test), f"{block.test} does not take the block from {block.page}"


def test_the_table_of_the_blocks_is_as_the_pages_say():
    assert (ROOT / "docs/tested.md").read_text() == importlib.import_module("update_tested").page(), "run make tested"


@pytest.mark.parametrize(
    "block", run_by(f"{HERE}::test_every_config_of_the_pages_is_one"), ids=lambda block: block.page
)
def test_every_config_of_the_pages_is_one(block, tmp_path):
    """Laid over the default study, or over one of the model that it speaks of. Commits that a reader fills in are words here."""
    given = yaml.safe_load(block.text)
    models = {name for edit in given.get("interventions", []) for name in edit.get("models", [])}
    if models:
        given = {"models": [{"source": f"hub:owner/{name}"} for name in models], **given}
    own = Layer("config.yaml", yaml.safe_load((ROOT / "config.yaml").read_text()))
    if "pretraining" in given:  # the page shows data, and the runs name those of the default study
        given["pretraining"]["data"] += own.values["pretraining"]["data"][1:]
    study = read_config(merge(own, [Layer("given.yaml", given)], tmp_path).values)
    for key in given:
        assert getattr(study, key), key


def test_the_resources_of_the_pages_are_set_for_rules_that_there_are():
    [block] = run_by(f"{HERE}::test_the_resources_of_the_pages_are_set_for_rules_that_there_are")
    assert block.page == "docs/cluster.md"
    rules = set(re.findall(r"^ *rule (\w+):", "".join(path.read_text() for path in ROOT.glob("rules/*.smk")), re.M))
    assert set(yaml.safe_load(block.text)["set-resources"]) <= rules


def test_a_config_is_made_plain_by_the_line_that_the_page_gives(tmp_path, monkeypatch):
    [block] = run_by(f"{HERE}::test_a_config_is_made_plain_by_the_line_that_the_page_gives")
    line, command = block.text.splitlines()
    assert command.endswith("--configfile theirs.json")
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(TINY | {"__use_yte__": True, "?1 + 1": 3}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}")
    assert os.system(line) == 0
    plain = json.loads((tmp_path / "theirs.json").read_text())
    assert plain["study"] == "tiny" and plain["?1 + 1"] == 3  # which is no key, and has not run


# ---- commands


def commands(text: str) -> list[list[str]]:
    """Words of each command of a block, without comments, redirections and what another shell says."""
    lines = text.replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|\|\|", line)]
    return [words for part in parts if (words := shlex.split(re.sub(r"[<>] *\S+", "", part), comments=True))]


SHELL = [(block, words) for block in blocks() if block.language == "sh" for words in commands(block.text)]
MAKEFILE = (ROOT / "Makefile").read_text()
RULES = "".join(path.read_text() for path in [ROOT / "Snakefile", *ROOT.glob("rules/*.smk")])
PLUGINS = (
    "kubernetes",
    "googlebatch",
    "aws-batch",
    "gcs",
    "s3",
)  # that the environment has not, with options of their own


@pytest.mark.parametrize(
    ("block", "words"), SHELL, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_command_is_one_that_its_program_takes(block, words, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    program, *arguments = words
    if program == "make":
        assert set(arguments) <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    elif program == "python" and arguments[0] != "-c":
        assert (ROOT / arguments[0]).is_file()
    elif program == "snakemake" and not set(PLUGINS) & set(arguments):
        from snakemake.cli import parse_args

        try:
            _, found = parse_args(arguments)
        except SystemExit:
            pytest.fail(capsys.readouterr().err)
        files = [path.name for path in found.configfile or []]
        assert [name for name in files if not (ROOT / name).is_file()] in ([], ["mine.yaml"], ["theirs.json"])
        assert found.snakefile is None or (ROOT / found.snakefile).is_file()
        rules = re.findall(r"^ *rule (\w+):", RULES, re.MULTILINE)
        assert set(found.targets) <= {*rules, "plan", "verify"}
    else:
        known = {"pip", "source", "export", "mkdir", "docker", "apptainer", "snakemake", "snakedeploy", "python"}
        assert program in known
