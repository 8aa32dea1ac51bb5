"""On a machine with one GPU, jobs that need it run one at a time, and others run beside them: the real scheduler says so."""

import itertools
import shutil
import subprocess
import sys

from tiny_study import ROOT

SNAKEFILE = """
rule all:
    input: expand("{kind}_{i}", kind=["gpu", "cpu"], i=range(3))

rule needs_gpu:
    output: "gpu_{i}"
    resources: gpu=1, mem_mb=100
    shell: "date +%s.%N > times_gpu_{wildcards.i}; sleep 0.6; date +%s.%N >> times_gpu_{wildcards.i}; touch {output}"

rule needs_none:
    output: "cpu_{i}"
    resources: gpu=0, mem_mb=100
    shell: "date +%s.%N > times_cpu_{wildcards.i}; sleep 0.6; date +%s.%N >> times_cpu_{wildcards.i}; touch {output}"
"""


def test_two_jobs_that_need_the_gpu_never_run_at_once_and_cpu_jobs_run_beside_them(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    for profile in ("default", "workstation"):
        shutil.copytree(ROOT / "profiles" / profile, tmp_path / "profiles" / profile)
    command = [sys.executable, "-m", "snakemake", "--cores", "4", "--profile", "profiles/workstation"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
    ran = {
        path.name.removeprefix("times_"): [*map(float, path.read_text().split())] for path in tmp_path.glob("times_*")
    }
    assert len(ran) == 6

    def together(one, other):
        return max(ran[one][0], ran[other][0]) < min(ran[one][1], ran[other][1])

    gpu, cpu = ([job for job in ran if job.startswith(kind)] for kind in ("gpu", "cpu"))
    assert not any(together(*pair) for pair in itertools.combinations(gpu, 2))
    assert any(together(*pair) for pair in itertools.product(gpu, cpu))
    assert any(together(*pair) for pair in itertools.combinations(cpu, 2))  # nor does anything else hold them back
