"""A job that fails costs its own rows: claims, figures and page are made of what is there and name what is missing."""

import copy
import json
import re
import shutil

import polars as pl
import pytest

from tiny_study import FIGURES, TINY, Project

SENTENCE = (
    "model broken: model.embed_tokens.weight in its model.safetensors has NaN or infinite numbers in 1 of its 320 rows"
)


def break_model(project: Project) -> None:
    """A copy of the tiny model whose damage only its fetch can see."""
    from safetensors.torch import load_file, save_file

    folder = project.folder / "broken_model"
    shutil.copytree(project.folder / "tiny_model", folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][7, 3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_broken_model() -> dict:
    config = copy.deepcopy(TINY)
    config["models"].append({"name": "broken", "source": "path:broken_model", "control": False})
    return config | {"figures": {"formats": ["svg"]}}


def times(folder) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


@pytest.fixture
def broken(study) -> Project:
    """The finished study with one more model, which is broken."""
    break_model(study)
    study.write_config(with_broken_model())
    return study


def test_a_broken_model_costs_its_own_rows_until_it_is_gone(broken):
    before, figures = times(broken.results), times(broken.results / "figures")
    done = broken.run(check=False)
    assert done.returncode == 1
    *_, failed, told, where = done.stderr.strip().splitlines()
    assert failed.startswith("sinkorigin: 1 job failed, and ")
    assert told.startswith(f"- rule fetch_model (model broken): {SENTENCE}")
    assert told.endswith("(log: results/logs/fetch_model/broken.log)")
    assert where == "What was found, and what is missing: results/tiny/index.html. Its figures: results/tiny/figures."
    page = (broken.results / "index.html").read_text()
    begin = page[page.index("This is not the whole study") : page.index("What was found")]
    assert (
        f"<li>broken on natural_text, random_tokens<small>{SENTENCE}" in begin
        and "figure" not in begin.partition("<li>")[2]
    )
    # each finished job of both passes has its line, and what was found stands before what failed
    assert len(re.findall(r"^\[ *\d+/\d+\] [\d:]{8}  judge_claims \(", done.stderr, re.MULTILINE)) == 1
    assert done.stdout.startswith("- ") and len(done.stdout.splitlines()) <= 10
    claims = pl.read_parquet(broken.results / "claims.parquet")
    assert {"tiny", "tiny-random"} <= set(claims["model"])
    lacking = claims.filter(model="broken")
    assert len(lacking) and set(lacking["verdict"]) == {"not applicable"}
    assert lacking["reason"].str.contains(SENTENCE, literal=True).all()
    drawn = times(broken.results / "figures")
    for name in FIGURES:
        assert drawn[f"{name}.svg"] > figures[f"{name}.svg"]
        # the matrix of evidence has its cells, as not applicable
        line = "Not shown, because a job failed: broken" in (broken.results / "figures" / f"{name}.svg").read_text()
        assert line == (name != "evidence"), name
    # those that do not show it are as they were
    assert all(drawn[f"{name}.svg"] == figures[f"{name}.svg"] for name in ("loss_curves", "necessity"))

    # the same again tells the same, and makes nothing twice but the page, which is removed as a run begins that would make it, and
    # what is made with the page or of that
    made = times(broken.results)
    again = broken.run(check=False)
    assert again.returncode == 1 and again.stderr.strip().splitlines()[-1] == where
    assert times(broken.results)["index.html"] > made["index.html"] > before["index.html"]
    assert times(broken.results / "figures") == drawn

    # without the model nothing of the partial claims and figures stays
    broken.write_config()
    planned = broken.planned_jobs()
    assert {"judge_claims()", "make_page()", *(f"plot_{name}()" for name in FIGURES)} <= planned
    assert not [job for job in planned if not job.startswith(("plot_", "judge_", "make_page"))]
    broken.run("results/tiny/index.html", "results/tiny/figures/key_collapse.svg")
    assert "not the whole study" not in (broken.results / "index.html").read_text()
    assert "Not shown" not in (broken.results / "figures/key_collapse.svg").read_text()


def test_a_table_that_was_asked_for_fails_alone(broken):
    before = times(broken.results)
    done = broken.run("results/tiny/statistics/broken/random_tokens/sinks.parquet", check=False)
    assert done.returncode == 1 and SENTENCE in done.stderr.strip().splitlines()[-1]
    assert times(broken.results)["index.html"] == before["index.html"]


def test_there_is_no_page_where_nothing_was_measured(fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    break_model(project)
    config = with_broken_model() | {"interventions": [], "pretraining": {"runs": []}}
    project.write_config(config | {"models": config["models"][2:]})
    done = project.run(check=False)
    assert done.returncode == 1 and SENTENCE in done.stderr.strip().splitlines()[-1]
    assert not (project.results / "index.html").exists() and not (project.results / "figures").exists()


def test_all_that_is_wrong_with_models_on_this_machine_is_told_at_once_and_no_job_runs(fresh, tmp_path):
    project = fresh.copy(tmp_path / "project")
    for name in ("pickled", "encoder", "truncated"):
        shutil.copytree(project.folder / "tiny_model", project.folder / name)
    (project.folder / "pickled/model.safetensors").rename(project.folder / "pickled/pytorch_model.bin")
    config = project.folder / "encoder/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": ["BertForMaskedLM"]}))
    weights = project.folder / "truncated/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    changed = copy.deepcopy(TINY)
    changed["models"] += [{"name": name, "source": f"path:{name}"} for name in ("pickled", "encoder", "truncated")]
    changed["interventions"][0] |= {"layers": [0, 3], "models": ["tiny-random"]}
    project.write_config(changed)
    done = project.run(check=False)
    assert done.returncode == 1 and not (project.folder / "results").exists()
    told = done.stderr.strip().splitlines()[-4:]
    expected = [
        "tiny.yaml: interventions.mask.layers has layer 3, but model tiny has 3 layers, 0 to 2",
        "model pickled: pickled has no safetensors weights (only pytorch_model.bin, which is pickle)",
        "model encoder: it is an encoder",
        "model truncated: its model.safetensors is truncated or damaged",
    ]
    assert all(sentence in line for sentence, line in zip(expected, told, strict=True)), done.stderr
