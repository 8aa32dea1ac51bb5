"""A site is declared once: its module and a line of the registry, and nothing that does not use it changes."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from architectures import build
from harness.code_version import Code
from sinkorigin.activations.capture import watch_sites
from sinkorigin.errors import SinkoriginError
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.registry import SITES
from sinkorigin.sites.site import DEFINITIONS, ModuleSite, load_site
from tiny_study import ROOT

LOCK = ROOT / "requirements.lock"
MODULE = '''
"""Residual stream between attention and FFN, ``residual_mid`` (N, T, d): x + attention_output.

It is the input of the module that reads that sum, which a block with attention and FFN side by side lacks.
"""

from sinkorigin.sites.block import Block, Lacking, equal
from sinkorigin.sites.modules import Place
from sinkorigin.sites.site import ModuleSite


def find(block: Block) -> Place | Lacking:
    if isinstance(block.attended, Lacking):
        return block.attended
    between = block.stream.input + block.attended.output
    for call in block.calls:
        if equal(call.input, between):
            return call.place("input")
    return Lacking("no module reads the residual stream between attention and FFN")


SITE = ModuleSite("residual_mid", find)
'''
EXTRACTION = """
import sys
from pathlib import Path
folder, library, tests, scripts = sys.argv[1:]
sys.path[:0] = [library, scripts, tests]
import numpy as np
from architectures import build
from harness.config.activations import KeptSite
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.writers import Kept
from sinkorigin.sites.architecture import read_architecture

names = [KeptSite(site=name).site for name in ("residual", "attention_output", "residual_mid")]
ids = np.random.default_rng(0).integers(3, 96, size=(6, 12))
for model in ("llama", "gpt_neox"):
    extract(read_architecture(build(model), model, names), ids, model=model, sites=dict.fromkeys(names, Kept()), batch=4,
            activations=Path(folder) / model, scores=Path(folder) / model / "scores.parquet")
"""


@pytest.fixture
def checkout(tmp_path):
    for folder in ("src", "workflow_scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def add_site(checkout: Path) -> None:
    sites = checkout / "src" / "sinkorigin" / "sites"
    (sites / "definitions" / "residual_mid.py").write_text(MODULE)
    registry = sites / "registry.py"
    registry.write_text(registry.read_text().replace('    "residual",\n', '    "residual",\n    "residual_mid",\n'))


def vectors(folder: Path, site: str, layer: int):
    return pl.read_parquet(folder / site / f"layer={layer}" / "part-0.parquet", hive_partitioning=False)["activation"]


def test_a_new_site_takes_one_module_and_one_line(checkout):
    add_site(checkout)
    command = [sys.executable, "-c", EXTRACTION, checkout / "a", checkout / "src", ROOT / "tests"]
    subprocess.run([*map(str, command), checkout / "workflow_scripts"], check=True)
    for layer in range(3):
        parts = [
            vectors(checkout / "a" / "llama", *of) for of in (("residual", layer - 1), ("attention_output", layer))
        ]
        between = vectors(checkout / "a" / "llama", "residual_mid", layer)
        assert (between.to_numpy() == sum(part.to_numpy() for part in parts)).all()
    found = pl.read_parquet(checkout / "a" / "gpt_neox" / "architecture.parquet").filter(part="residual_mid")
    assert found["found"].to_list() == [None] * 3
    assert set(found["reason"]) == {"no module reads the residual stream between attention and FFN"}


def test_a_new_site_changes_no_job_that_does_not_keep_it(checkout):
    scripts = sorted(path.name for path in (checkout / "workflow_scripts").glob("*.py"))

    def versions(*sites):
        code = Code(checkout, LOCK)
        kept = [f"{DEFINITIONS}.{site}" for site in sites]
        return {script: code.version(script) for script in scripts}, code.version("extract_activations.py", *kept)

    before = versions(*SITES)
    add_site(checkout)
    assert versions(*SITES) == before
    with_new = versions(*SITES, "residual_mid")[1]
    module = checkout / "src" / "sinkorigin" / "sites" / "definitions" / "residual_mid.py"
    module.write_text(module.read_text().replace("block.calls", "block.calls[1:]"))
    assert versions(*SITES) == before
    assert len({before[1], with_new, versions(*SITES, "residual_mid")[1]}) == 3


def test_every_registered_site_is_the_module_of_its_name():
    folder = Path(importlib.import_module(DEFINITIONS).__file__).parent
    assert sorted(SITES) == sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    for site in SITES:
        assert load_site(site).name == site


def test_a_site_that_does_not_exist_is_refused():
    with pytest.raises(SinkoriginError, match=r"there is no site 'residual_middle'; choose one that .*registry\.py"):
        read_architecture(build("llama"), "m", ["residual_middle"])


def test_a_site_that_the_model_was_not_read_for_is_refused(monkeypatch):
    further = ModuleSite("block_input", lambda block: block.stream.place("input"))
    monkeypatch.setattr("sinkorigin.activations.capture.load_site", lambda name: further)
    with pytest.raises(
        SinkoriginError, match=r"the site block_input was not looked for .* read_architecture\(\.\.\., sites="
    ):
        with watch_sites(read_architecture(build("llama")), ["block_input"], print):
            pass
