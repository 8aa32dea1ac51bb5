"""What is missing, was killed or is damaged is made again by the same command, with the same bytes."""

import copy
import itertools
import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edits import added
from planned_jobs import scripts_of_jobs, undemanded_outputs
from tiny_study import FIGURES, INTERVENTION_FIGURES, MECHANISM_FIGURES, TINY, Project, digests


def without_text() -> dict:
    untrained = {"runs": [], "data": [], "prompts": ["random_tokens"]}
    return copy.deepcopy(TINY) | {"prompts": [TINY["prompts"][0]], "interventions": [], "pretraining": untrained}


def with_own_data() -> dict:
    config = copy.deepcopy(TINY)
    config["pretraining"]["data"][0] = {
        "name": "plays", "kind": "text", "tokenizer": "path:tiny_model", "corpus": {"source": "path:text"},
    }  # fmt: skip
    return config


@pytest.mark.parametrize(
    ("config", "targets"),
    [(TINY, []), (TINY, ["learning_rates"]), (with_own_data(), []), (without_text(), [])],
    ids=["tiny", "learning rates", "own data", "no text"],
)
def test_every_output_of_every_job_is_demanded_so_that_a_missing_one_is_made_again(fresh, tmp_path, config, targets):
    project = fresh.copy(tmp_path / "project")
    project.write_config(config)
    found = undemanded_outputs(project.folder, [*project.arguments, "--forceall", *targets])
    assert len(found) > 10 and {job: files for job, files in found.items() if files} == {}
    reads_text = any(prompts["kind"] == "natural_text" for prompts in config["prompts"])
    assert ("fetch_corpus()" in found) == reads_text


# Put into a module that every job imports: the first job of each rule is killed as it puts its first output under its final name,
# when all that it computed is written under another.
KILLING = """

import os as _os, signal as _signal, sys as _sys
from pathlib import Path as _Path

def _kill_first(event, _):
    job = getattr(_sys.modules["__main__"], "snakemake", None)
    if event == "os.rename" and hasattr(job, "rule") and hasattr(job, "scriptdir"):
        try:
            _Path("killed", job.rule).touch(exist_ok=False)
        except FileExistsError:
            return
        _os.kill(_os.getpid(), _signal.SIGKILL)

_sys.addaudithook(_kill_first)
"""


def killed_until_it_ends(study: Project, *targets: str) -> None:
    """Run a study again and again, with the first job of each rule killed, until it ends well."""
    killed = study.folder / "killed"
    for _ in range(40):
        before = len(list(killed.iterdir()))
        done = study.run(*targets, check=False)
        if not done.returncode:
            return
        assert len(list(killed.iterdir())) > before, f"it failed, and nothing was killed:\n{done.stderr}"
    raise AssertionError("it does not end")


def rerun_with_kills(study: Project, *commands: Sequence[str]) -> set[str]:
    """Edit a finished study, run it with kills, and compare it with itself before; the rules that were killed.

    Args:
        commands: targets of each of the commands that are run one after the other, each until it ends.
    """
    jobs = scripts_of_jobs(study.folder, [*study.arguments, *itertools.chain(*commands)])
    expected = digests(study.folder / "results")
    # every job runs again, and no result changes
    added("src/sinkorigin/errors.py", KILLING)(study)
    (study.folder / "killed").mkdir()
    time.sleep(0.01)
    edited = time.time()
    for targets in commands:
        killed_until_it_ends(study, *targets)
    made = digests(study.folder / "results")
    assert {name for name in expected if made.get(name) != expected[name] and "timing" not in name} == set()
    outputs = [path for facts in jobs.values() for path in facts["output"]]
    assert [path for path in outputs if (study.folder / path).stat().st_mtime < edited] == []
    return {path.name for path in (study.folder / "killed").iterdir()}


# one script draws all figures: the others are not drawn again, nor is the page made that shows them all
UNDRAWN = {"make_page"} | {
    f"plot_{name}"
    for name in [*FIGURES, *INTERVENTION_FIGURES, *MECHANISM_FIGURES, "training_dynamics", "pretraining_comparison"]
    if name not in ("anatomy", "evidence", "sink_by_intervention")
}


def test_a_job_of_every_rule_killed_after_an_edit_is_run_again_to_the_bytes_of_a_clean_run(study):
    # a part of the finished study in which every rule has a job
    config = copy.deepcopy(TINY)
    rules = {facts["rule"] for facts in scripts_of_jobs(study.folder, study.arguments).values()}
    config["models"] = [config["models"][0] | {"control": False, "prompts": ["random_tokens"]}]
    config["pretraining"]["runs"] = config["pretraining"]["runs"][::2]
    study.write_config(config)
    jobs = scripts_of_jobs(study.folder, study.arguments)
    assert {facts["rule"] for facts in jobs.values()} == rules
    summaries = {rule for rule in rules if rule.startswith(("plot_", "judge_", "make_page"))}
    # claims and figures apart: otherwise each run with a kill makes them of what is there
    commands = [
        sorted(path for facts in jobs.values() if facts["rule"] in some for path in facts["output"])
        for some in (rules - summaries, summaries - UNDRAWN)
    ]
    study.run(*commands[1])
    assert rerun_with_kills(study, *commands) == rules - UNDRAWN
    assert {job.partition("(")[0] for job in study.planned_jobs()} == UNDRAWN


def test_killed_jobs_of_the_sweep_and_of_own_data_are_run_again_too(fresh, tmp_path):
    config = with_own_data()
    config["pretraining"]["runs"] = config["pretraining"]["runs"][1:2]
    study = fresh.copy(tmp_path / "study")
    study.write_config(config)
    study.run("learning_rates")
    assert rerun_with_kills(study, ["learning_rates"]) == {
        "fetch_own_corpus", "take_tokenizer", "tokenize_corpus", "pretrain_learning_rate", "compare_learning_rates",
        "plot_learning_rates",
    }  # fmt: skip


DAMAGED = [
    "activations/tiny/random_tokens/residual_gram.parquet",
    "activations/tiny/random_tokens/residual/layer=1/part-0.parquet",
    "interventions/tiny/random_tokens/edited/mask/strength=1/scores.parquet",
    "pretraining/softmax/seed=0/checkpoints/step=10/model.safetensors",
    "statistics/tiny/random_tokens/norms.parquet",
    "figures/loss_curves.svg",
    "index.html",
]


def damage(path: Path) -> None:
    """Change one bit, and neither size nor time."""
    facts = path.stat()
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes(raw)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def follow(study: Project, said: str) -> list[str]:
    """Delete what the sentences say."""
    named = sorted(set(re.findall(r"delete (\S+) and run the same command again", " ".join(said.split()))))
    for path in named:
        place = study.folder / path
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    return named


def test_verify_names_all_damage_and_what_it_says_brings_it_back(finished, study):
    assert "files of study tiny are as they were written" in study.run("verify").stdout
    for name in DAMAGED:
        damage(study.results / name)
    done = study.run("verify", check=False)
    assert done.returncode and f"{len(DAMAGED)} of the" in " ".join(done.stderr.split()), done.stderr
    assert all(f"results/tiny/{name} " in done.stdout for name in DAMAGED), done.stdout
    assert len(follow(study, done.stdout)) == len(DAMAGED)
    planned = study.planned_jobs()
    assert {
        "extract_activations(model=tiny, prompts=random_tokens)", "intervene(model=tiny, prompts=random_tokens)",
        "pretrain_with_checkpoints(run=softmax, seed=0)", "compute_norms(model=tiny, prompts=random_tokens)",
        "plot_loss_curves()", "make_page()",
    } <= planned  # fmt: skip
    # the damage was in a link: the file behind it is made again too
    table = "results/tiny/statistics/tiny/random_tokens/interventions.parquet"
    study.run("results/tiny/interventions/tiny/random_tokens/edited/interventions.json", table)
    scores = DAMAGED[2]
    assert (study.results / scores).read_bytes() == (finished.results / scores).read_bytes()
    assert (study.folder / table).read_bytes() == (finished.folder / table).read_bytes()


def test_a_job_refuses_damage_and_what_it_says_brings_it_back(finished, study):
    table = "results/tiny/statistics/tiny/random_tokens/effective_rank.parquet"
    damage(study.results / DAMAGED[0])
    (study.folder / table).unlink()
    done = study.run(table, check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode and "residual_gram.parquet is damaged or was changed" in said and "Traceback" not in said
    assert follow(study, said) == [f"results/tiny/{DAMAGED[0]}"]
    study.run(table)
    assert (study.folder / table).read_bytes() == (finished.folder / table).read_bytes()


def test_a_renamed_study_is_as_it_was_written(study):
    study.results.rename(study.results.with_name("renamed"))
    study.write_config(TINY | {"study": "renamed"})
    assert "files of study renamed are as they were written" in study.run("verify").stdout


def test_verify_is_refused_where_results_lie_in_a_storage(fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    storage = ["--default-storage-provider", "fs", "--default-storage-prefix", tmp_path, "--shared-fs-usage", "none"]
    done = project.run("verify", *storage, check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode and "results of this run lie in a storage; copy results/ from it and run verify" in said
    assert "Traceback" not in said


def test_a_model_of_another_study_is_not_overwritten_without_a_word(study):
    config = copy.deepcopy(TINY) | {"study": "second"}
    config["models"][0]["trust_remote_code"] = True
    study.write_config(config)
    done = study.run("results/models/tiny/manifest.json", check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode and "Traceback" not in said
    assert (
        "tiny.yaml: model tiny has trust_remote_code True, but results/models/tiny was fetched with False and study tiny uses it; "
        "give the model another name in one of the studies, or delete results/tiny if it is no longer needed"
    ) in said
    config["models"][0]["name"] = "tiny-two"
    config["models"][1] |= {"name": "tiny-two-random", "source": "random:tiny-two"}
    study.write_config(config | {"interventions": []})
    study.run("results/models/tiny-two/manifest.json")
    shutil.rmtree(study.results)
    config["models"][0]["name"] = "tiny"
    config["models"][1]["source"] = "random:tiny"
    study.write_config(config | {"interventions": []})
    study.run("results/models/tiny/manifest.json")
