"""Parts of other libraries that are imported when they are first used, each shown in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sinkorigin

BEGIN = """
import sys
from harness.deferred import unused_imports_deferred
imported = lambda module: module in sys.modules
"""


def run(body: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", BEGIN + body],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(sinkorigin.__file__).parents[1])},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_model_does_not_import_what_only_losses_of_detectors_use():
    out = run("""
with unused_imports_deferred():
    from transformers.models.llama import modeling_llama
print(imported("scipy.optimize"), imported("scipy.optimize._optimize"))
from transformers.loss.loss_for_object_detection import linear_sum_assignment
print([indices.tolist() for indices in linear_sum_assignment([[4, 1], [2, 8]])], imported("scipy.optimize._optimize"))
""")
    assert out.splitlines() == ["True False", "[[0, 1], [1, 0]] True"]


def test_figures_do_not_import_what_only_density_plots_and_dendrograms_use():
    out = run("""
with unused_imports_deferred():
    import seaborn
print(imported("scipy.stats._stats_py"), imported("scipy.cluster.hierarchy"))
import seaborn.matrix, seaborn._statistics
print(seaborn.matrix.hierarchy.linkage([[0.0], [1.0]]).tolist(), seaborn._statistics.gaussian_kde([0.0, 1.0]).n)
""")
    assert out.splitlines() == ["False False", "[[0.0, 1.0, 1.0, 2.0]] 2"]


@pytest.mark.parametrize("use", ["from scipy.stats import t", "import scipy.stats; t = scipy.stats.t"])
def test_any_other_use_imports_the_module(use):
    out = run(f"""
with unused_imports_deferred():
    {use}
import scipy.optimize
print(t.ppf(0.975, 2).round(3), imported("scipy.stats._stats_py"), scipy.optimize.brentq(lambda x: x - 1, 0, 3))
""")
    assert out.split() == ["4.303", "True", "1.0"]
