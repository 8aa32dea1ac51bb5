"""A script's version follows the code it can reach, and nothing else."""

import shutil
from pathlib import Path

import pytest

from harness import code_version as module
from harness.code_version import Code
from harness.figures import FIGURES
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


def version(checkout, script, *modules):
    return Code(checkout, LOCK).version(script, *modules)


def versions(checkout, lock=LOCK, memory=None):
    """Script, figure or ``compute_{statistic}`` → its version, of all scripts, figures and statistics."""
    code = Code(checkout, lock, memory)
    found = {path.name: code.version(path.name) for path in sorted((checkout / "workflow_scripts").glob("*.py"))}
    found |= {figure.name: code.version("plot.py", f"sinkorigin.figures.{figure.name}") for figure in FIGURES}
    found |= {f"compute_{name}": code.version("compute.py", f"sinkorigin.statistics.{name}") for name in STATISTICS}
    code.remember()
    return found


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_comments_docstrings_and_layout_change_nothing(checkout):
    before = version(checkout, "compute.py", "sinkorigin.statistics.sinks")
    sinks = checkout / LIBRARY / "statistics" / "sinks.py"
    sinks.write_text('"""Another docstring."""\n\n# a comment\n' + sinks.read_text().split('"""', 2)[2] + "\n\n")
    assert version(checkout, "compute.py", "sinkorigin.statistics.sinks") == before


def test_a_statistic_changes_its_own_version_only(checkout):
    names = ["compute_sinks", "compute_variance", "extract_activations.py", "loss_curves"]
    before = versions(checkout)
    sinks = checkout / LIBRARY / "statistics" / "sinks.py"
    sinks.write_text(sinks.read_text() + "\n\n_CHANGED = 1\n")
    after = versions(checkout)
    assert [name for name in names if after[name] != before[name]] == ["compute_sinks"]


def test_one_more_statistic_changes_no_version(checkout):
    before = versions(checkout)
    statistics = checkout / LIBRARY / "statistics"
    (statistics / "entropy.py").write_text("def compute(inputs):\n    return {}\n")
    edit(statistics / "registry.py", '"sinks",', '"sinks", "entropy",')
    assert versions(checkout) == before


def test_a_figure_changes_its_job_only(checkout):
    before = versions(checkout)
    figure = checkout / LIBRARY / "figures" / "loss_curves.py"
    figure.write_text(figure.read_text() + "\n\n_CHANGED = 1\n")
    after = versions(checkout)
    assert [name for name in before if after[name] != before[name]] == ["loss_curves"]


def test_a_module_reached_through_another_counts(checkout):
    before = version(checkout, "extract_activations.py")
    attention = checkout / LIBRARY / "sites" / "attention.py"
    attention.write_text(attention.read_text() + "\n\n_CHANGED = 1\n")
    assert version(checkout, "extract_activations.py") != before


def test_no_statistic_figure_or_claim_can_reach_pytorch():
    code = Code(ROOT, LOCK)
    scripts = [path.name for path in SCRIPTS.glob("*.py") if path.name.startswith(("compute_", "judge_"))]
    for job in [
        *((script,) for script in scripts),
        ("compute.py", *(f"sinkorigin.statistics.{name}" for name in STATISTICS)),
        ("plot.py", *(f"sinkorigin.figures.{one.name}" for one in FIGURES)),
    ]:
        for path in code.closure(*job):
            text = path.read_text()
            assert "import torch" not in text and "from torch" not in text, (job[0], path.name)


def test_pins_count_where_the_code_below_uses_them(checkout, tmp_path):
    names = ["extract_activations.py", "loss_curves", "compute_sinks", "compute_effective_rank"]

    memory = tmp_path / "parsed.json"
    before = versions(checkout, LOCK, memory)

    def changed(package):
        lock = tmp_path / f"{package}.lock"
        lock.write_text(LOCK.read_text().replace(f"\n{package}==", f"\n{package}==99."))
        assert lock.read_text() != LOCK.read_text(), package
        after = versions(checkout, lock, memory)
        return [name for name in names if after[name] != before[name]]

    assert changed("scipy") == ["compute_sinks"]
    assert changed("torch") == changed("tokenizers") == ["extract_activations.py"]
    assert changed("polars-runtime-32") == names[1:]  # required by polars alone
    assert changed("numpy") == names
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
    assert [name for name in first if after[name] != first[name]] == ["compute_sinks"]
    memory.write_text("not JSON")
    assert versions(checkout, LOCK, memory) == after


def test_a_kind_of_intervention_is_part_of_its_own_version_only(checkout):
    kinds = "sinkorigin.interventions.kinds"

    def found():
        code = Code(checkout, LOCK)
        return {
            name: code.version("intervene.py", f"{kinds}.{name}") for name in ("mask", "norm_control", "mean_shift")
        }

    before, scripts = found(), versions(checkout)
    folder = checkout / LIBRARY / "interventions"
    (folder / "kinds" / "sign_flip.py").write_text((folder / "kinds" / "mask.py").read_text())
    edit(folder / "registry.py", '    "mask",\n', '    "mask",\n    "sign_flip",\n')
    assert found() == before and versions(checkout) == scripts
    edit(folder / "kinds" / "mask.py", "linewidth=2.0", "linewidth=2.5")
    after = found()
    assert [name for name in before if after[name] != before[name]] == ["mask"] and versions(checkout) == scripts
    edit(folder / "kind.py", "BASELINE = ", "_CHANGED = 1\nBASELINE = ")
    assert not set(found().values()) & set(after.values())


def test_what_was_parsed_is_not_believed_once_it_is_damaged(checkout, tmp_path):
    memory = tmp_path / "parsed.json"
    name = ("compute.py", "sinkorigin.statistics.sinks")
    before = Code(checkout, LOCK, memory)
    version, closure = before.version(*name), before.closure(*name)
    before.remember()
    whole = memory.read_text()
    memory.write_text(whole.replace("sinkorigin.statistics.bootstrap", "sinkorigin.statistics.bootstrbp"))
    assert memory.read_text() != whole
    for damaged in (memory.read_text(), whole[:-9], "", "null"):
        memory.write_text(damaged)
        after = Code(checkout, LOCK, memory)
        assert (after.version(*name), after.closure(*name)) == (version, closure)
