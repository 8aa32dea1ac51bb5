"""A script's version follows the code it can reach, and nothing else."""

import shutil
from pathlib import Path

import pytest

from sinkorigin import code_version as module

SCRIPTS = Path(__file__).parents[2] / "workflow_scripts"


@pytest.fixture
def scripts(tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "scripts"


def version(scripts, script):
    for cached in (module.code_version, module.closure, module._parsed):
        cached.cache_clear()
    return module.code_version(scripts / script)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_comments_docstrings_and_layout_change_nothing(scripts):
    before = version(scripts, "compute_sinks.py")
    sinks = scripts / "sinkorigin" / "statistics" / "sinks.py"
    sinks.write_text('"""Another docstring."""\n\n# a comment\n' + sinks.read_text().split('"""', 2)[2] + "\n\n")
    assert version(scripts, "compute_sinks.py") == before


def test_a_statistic_changes_its_own_script_only(scripts):
    names = ["compute_sinks.py", "compute_variance.py", "extract_activations.py", "plot_loss_curves.py"]
    before = {name: version(scripts, name) for name in names}
    sinks = scripts / "sinkorigin" / "statistics" / "sinks.py"
    sinks.write_text(sinks.read_text() + "\n\n_CHANGED = 1\n")
    assert [name for name in names if version(scripts, name) != before[name]] == ["compute_sinks.py"]


def test_a_module_reached_through_another_counts(scripts):
    before = version(scripts, "extract_activations.py")
    attention = scripts / "sinkorigin" / "attention.py"
    attention.write_text(attention.read_text() + "\n\n_CHANGED = 1\n")
    assert version(scripts, "extract_activations.py") != before


def test_no_statistic_figure_or_claim_can_reach_pytorch():
    for script in SCRIPTS.glob("*.py"):
        if script.name.startswith(("compute_", "plot_", "judge_")):
            for path in module.closure(script):
                text = path.read_text()
                assert "import torch" not in text and "from torch" not in text, (script.name, path.name)
