"""Fixtures of all tests."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from architectures import ARCHITECTURES, build


@pytest.fixture(params=sorted(ARCHITECTURES))
def any_model(request):
    return build(request.param)


@pytest.fixture
def llama():
    return build("llama")


@pytest.fixture
def token_ids():
    import numpy as np

    return np.random.default_rng(0).integers(3, 96, size=(6, 12))
