"""Jobs without a shared file system: what they read is brought to them from a storage, and what they make goes there."""

import re
import shutil

import pytest

from tiny_study import ROOT, digests


@pytest.fixture(scope="module")
def storage(fresh, tmp_path_factory):
    """A storage that one checkout filled with a model, activations, statistics and interventions."""
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed, with which the storage plugin for file systems copies")
    folder = tmp_path_factory.mktemp("storage")
    study = fresh.copy(folder / "project")
    study.run_by_command(*in_storage(folder / "store", "interventions/tiny/random_tokens/edited/interventions.json"))
    return folder / "store", study


def in_storage(store, *targets) -> list[str]:
    return [
        *(f"results/tiny/{target}" for target in targets),
        "--default-storage-provider", "fs", "--default-storage-prefix", store, "--shared-fs-usage", "none",
    ]  # fmt: skip


def test_everything_a_job_makes_arrives_in_the_storage(storage, finished):
    store, study = storage
    made, expected = digests(store / "results"), digests(finished.folder / "results")
    assert len(made) > 20 and {name for name in made if made[name] != expected[name]} == set()
    for folder in ("models/tiny", "tiny/activations/tiny/random_tokens/residual"):
        files = {file.name for file in (finished.folder / "results" / folder).rglob("*")}
        assert {file.name for file in (store / "results" / folder).rglob("*")} == files
    assert not list((study.folder / "results").rglob("*.parquet")), "nothing may lie in the working directory"


def test_a_job_elsewhere_works_from_the_storage_alone(storage, fresh, finished, tmp_path):
    store, _ = storage
    other = fresh.copy(tmp_path / "other")
    (other.folder / "tiny_model/model.safetensors").rename(tmp_path / "away")
    table = "statistics/tiny/random_tokens/interventions.parquet"
    other.run_by_command(*in_storage(store, table))
    assert (store / "results/tiny" / table).read_bytes() == (finished.results / table).read_bytes()


def test_the_image_is_made_by_the_step_that_the_tests_use():
    steps = re.findall(r"^RUN (make \w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert steps == ["make environment"] and steps[0] in (ROOT / ".ci/run").read_text().splitlines()
