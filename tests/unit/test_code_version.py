"""A script's version follows the code it can reach, and nothing else."""

import shutil
from pathlib import Path

import pytest

from harness import code_version as module
from harness.code_version import Code
from sinkorigin.statistics.registry import STATISTICS

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow_scripts"
LIBRARY = Path("src/sinkorigin")
LOCK = ROOT / "requirements.lock"


@pytest.fixture
def checkout(tmp_path):
    for folder in ("src", "workflow_scripts"):
        shutil.copytree(ROOT / folder, tmp_path / "checkout" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "checkout"


SINKS, VARIANCE, LOSSES = (
    ("compute.py", f"sinkorigin.statistics.{name}") for name in ("sinks", "variance", "pretraining")
)
EXTRACTION, FIGURE = ("extract_activations.py",), ("plot_loss_curves.py",)


def version(checkout, script, *modules):
    return Code(checkout, LOCK).version(script, *modules)


def versions(checkout, lock=LOCK, memory=None):
    """Version of the code of each of some jobs: script and modules → version."""
    code = Code(checkout, lock, memory)
    found = {job: code.version(*job) for job in (SINKS, VARIANCE, LOSSES, EXTRACTION, FIGURE)}
    code.remember()
    return found


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_comments_docstrings_and_layout_change_nothing(checkout):
    before = version(checkout, *SINKS)
    sinks = checkout / LIBRARY / "statistics" / "sinks.py"
    sinks.write_text('"""Another docstring."""\n\n# a comment\n' + sinks.read_text().split('"""', 2)[2] + "\n\n")
    assert version(checkout, *SINKS) == before


def test_a_statistic_changes_its_own_version_only(checkout):
    before = versions(checkout)
    sinks = checkout / LIBRARY / "statistics" / "sinks.py"
    sinks.write_text(sinks.read_text() + "\n\n_CHANGED = 1\n")
    after = versions(checkout)
    assert [job for job in before if after[job] != before[job]] == [SINKS]


def test_one_more_statistic_changes_no_version(checkout):
    before = versions(checkout)
    statistics = checkout / LIBRARY / "statistics"
    (statistics / "entropy.py").write_text("def compute(inputs):\n    return {}\n")
    edit(statistics / "registry.py", '"sinks",', '"sinks", "entropy",')
    assert versions(checkout) == before


def test_a_module_reached_through_another_counts(checkout):
    before = version(checkout, "extract_activations.py")
    attention = checkout / LIBRARY / "sites" / "attention.py"
    attention.write_text(attention.read_text() + "\n\n_CHANGED = 1\n")
    assert version(checkout, "extract_activations.py") != before


def test_no_statistic_figure_or_claim_can_reach_pytorch():
    code = Code(ROOT, LOCK)
    jobs = [("compute.py", f"sinkorigin.statistics.{name}") for name in STATISTICS]
    jobs += [(script.name,) for pattern in ("compute_*", "plot_*", "judge_*") for script in SCRIPTS.glob(pattern)]
    for job in jobs:
        for path in code.closure(*job):
            text = path.read_text()
            assert "import torch" not in text and "from torch" not in text, (job, path.name)


def test_pins_count_where_the_code_below_uses_them(checkout, tmp_path):
    memory = tmp_path / "parsed.json"
    before = versions(checkout, LOCK, memory)

    def changed(package):
        lock = tmp_path / f"{package}.lock"
        lock.write_text(LOCK.read_text().replace(f"\n{package}==", f"\n{package}==99."))
        assert lock.read_text() != LOCK.read_text(), package
        after = versions(checkout, lock, memory)
        return [job for job in before if after[job] != before[job]]

    assert changed("scipy") == [SINKS, VARIANCE]
    assert changed("torch") == changed("tokenizers") == [EXTRACTION]
    assert changed("polars-runtime-32") == [SINKS, VARIANCE, LOSSES, FIGURE]  # required by polars alone
    assert changed("numpy") == list(before)
    assert changed("pytest") == changed("requests") == changed("snakemake") == []


def test_what_was_parsed_before_is_not_parsed_again_and_gives_the_same_versions(checkout, tmp_path, monkeypatch):
    memory = tmp_path / "parsed.json"
    first = versions(checkout, LOCK, memory)
    parsed = []
    parse = module._parse
    monkeypatch.setattr(module, "_parse", lambda source, name: parsed.append(Path(name).name) or parse(source, name))
    assert versions(checkout, LOCK, memory) == first and parsed == []
    sinks = checkout / LIBRARY / "statistics" / "sinks.py"
    sinks.write_text(sinks.read_text() + "\n\n_CHANGED = 1\n")
    after = versions(checkout, LOCK, memory)
    assert parsed == ["sinks.py"]
    assert [job for job in first if after[job] != first[job]] == [SINKS]
    memory.write_text("not JSON")
    assert versions(checkout, LOCK, memory) == after
