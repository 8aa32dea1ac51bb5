"""A model whose tokenizer has no BOS: its study runs to the end, and says what there is not."""

from pathlib import Path

import polars as pl
import pytest

from sinkorigin.tables import not_applicable, verify
from tiny_study import TINY, checkout, take_bos_away, write_model, write_text

REASON = "the model has no BOS token"
TOKENS = TINY["prompts"][0]
CONFIG = {
    "study": "tiny",
    "models": [{"source": "path:tiny_model", "name": "tiny", "control": False}],
    "corpus": TINY["corpus"],
    "prompts": [TOKENS, TOKENS | {"name": "with_bos", "first_token": "bos"}],
    "activations": TINY["activations"],
    "statistics": TINY["statistics"],
    "interventions": [
        {"name": "mask", "kind": "mask", "layers": [0, 1], "positions": [5], "sequences": 8, "prompts": ["with_bos"]}
    ],
    "pretraining": {"runs": [], "prompts": ["random_tokens"]},
}  # fmt: skip
TARGETS = [
    "results/tiny/claims.parquet",
    *(f"results/tiny/figures/{n}.svg" for n in ("sinks_by_first_token", "sinks_by_position")),
]


@pytest.fixture(scope="module")
def without_bos(tmp_path_factory):
    project = checkout(tmp_path_factory.mktemp("no_bos") / "project")
    project.write_config(CONFIG)
    write_text(project.folder / "text")
    write_model(project.folder / "tiny_model", project.folder / "text")
    take_bos_away(project.folder / "tiny_model")
    project.run(*TARGETS)  # a status other than 0 is an error
    return project


def test_every_file_of_the_prompts_with_bos_is_there_is_whole_and_says_why_it_is_empty(without_bos):
    files = [
        path
        for folder in ("prompts", "activations", "attention", "interventions", "statistics")
        for path in (without_bos.results / folder).rglob("*")
        if "with_bos" in str(path) and path.suffix in (".parquet", ".json")
    ]
    names = {path.name for path in files}
    assert {"with_bos.parquet", "scores.parquet", "manifest.json", "interventions.json", "sink_mass.parquet"} <= names
    assert {"super_neurons.parquet", "interventions.parquet", "first_positions.parquet"} <= names
    for path in files:
        verify(path)
        assert not_applicable(path) == REASON, path
        if path.suffix == ".parquet":
            full = Path(str(path).replace("with_bos", "random_tokens"))
            assert not full.is_file() or pl.read_parquet_schema(path) == pl.read_parquet_schema(full), path


def test_the_claims_give_the_reason_and_judge_what_there_is(without_bos):
    claims = pl.read_parquet(without_bos.results / "claims.parquet").filter(role="pretrained")
    lacking = claims.filter(prompts="with_bos")
    assert len(lacking) and set(lacking["verdict"]) == {"not applicable"} and set(lacking["reason"]) == {REASON}
    assert {"reproduced", "contradicted", "undecided"} & set(claims.filter(prompts="random_tokens")["verdict"])


def test_nothing_runs_again(without_bos):
    done = without_bos.run(*TARGETS)
    assert "Nothing to be done" in done.stdout + done.stderr
