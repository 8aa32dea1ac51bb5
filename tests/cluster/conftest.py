"""A Slurm for the tests of this folder."""

import os

import pytest

from local_slurm import LocalSlurm, missing


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    if lacking := missing():
        pytest.skip(f"Slurm is not installed here (no {', '.join(lacking)}); apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root here")
    with LocalSlurm(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
