"""What the terminal tells of the project: `make help` has every target, `snakemake --list-rules` describes every rule."""

import re
import subprocess
import sys

from tiny_study import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()


def test_make_help_describes_every_target():
    [phony] = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    said = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    described = dict(re.findall(r"^make (\S+) +(\S.*)$", said, re.MULTILINE))
    assert described.keys() == set(phony.split()) and len(described) == len(said.splitlines())
    # every target that is no file
    assert set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE)) == described.keys()


def test_snakemake_lists_every_rule_with_a_description():
    command = [sys.executable, "-m", "snakemake", "--list-rules"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rules = dict(re.findall(r"^(\w+)(?: \((.*)\))?$", said, re.MULTILINE))
    assert {"all", "first_look", "compute_sinks", "plot_chain", "pretrain_with_checkpoints", "verify"} < rules.keys()
    assert [rule for rule, text in rules.items() if not re.fullmatch(r"[A-Z].{14,}[.?]", text)] == []
    # what is made in a loop is described one by one
    assert len(set(rules.values())) == len(rules)
