"""A script's version follows the code it can reach, and nothing else."""

import shutil
from pathlib import Path

import pytest

from sinkorigin import code_version as module
from sinkorigin.code_version import Code

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow_scripts"
LOCK = ROOT / "requirements.lock"


@pytest.fixture
def scripts(tmp_path):
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "scripts"


def version(scripts, script):
    return Code(scripts, LOCK).version(script)


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
    code = Code(SCRIPTS, LOCK)
    for script in SCRIPTS.glob("*.py"):
        if script.name.startswith(("compute_", "plot_", "judge_")):
            for path in code.closure(script.name):
                text = path.read_text()
                assert "import torch" not in text and "from torch" not in text, (script.name, path.name)


def test_pins_count_where_the_code_below_uses_them(scripts, tmp_path):
    names = ["compute_sinks.py", "compute_effective_rank.py", "extract_activations.py", "plot_loss_curves.py"]

    memory = tmp_path / "parsed.json"
    before = Code(scripts, LOCK, memory).versions()

    def changed(package):
        lock = tmp_path / f"{package}.lock"
        lock.write_text(LOCK.read_text().replace(f"\n{package}==", f"\n{package}==99."))
        assert lock.read_text() != LOCK.read_text(), package
        after = Code(scripts, lock, memory).versions()
        return [name for name in names if after[name] != before[name]]

    assert changed("scipy") == ["compute_sinks.py"]
    assert changed("torch") == changed("tokenizers") == ["extract_activations.py"]
    assert changed("polars-runtime-32") == ["plot_loss_curves.py"]  # required by polars alone
    assert changed("numpy") == names
    assert changed("pytest") == changed("requests") == changed("snakemake") == []


def test_what_was_parsed_before_is_not_parsed_again_and_gives_the_same_versions(scripts, tmp_path, monkeypatch):
    memory = tmp_path / "parsed.json"
    first = Code(scripts, LOCK, memory).versions()
    parsed = []
    parse = module._parse
    monkeypatch.setattr(module, "_parse", lambda source, name: parsed.append(Path(name).name) or parse(source, name))
    assert Code(scripts, LOCK, memory).versions() == first and parsed == []
    sinks = scripts / "sinkorigin" / "statistics" / "sinks.py"
    sinks.write_text(sinks.read_text() + "\n\n_CHANGED = 1\n")
    after = Code(scripts, LOCK, memory).versions()
    assert parsed == ["sinks.py"]
    assert [name for name in first if after[name] != first[name]] == ["compute_sinks.py"]
    memory.write_text("not JSON")
    assert Code(scripts, LOCK, memory).versions() == after
