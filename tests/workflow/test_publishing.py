"""`snakemake publish` makes a folder of a finished study, and of no other."""

import json
import re
import shutil

from blocks import run_by
from tiny_study import ROOT

BLOCK = "tests/workflow/test_publishing.py"


def test_a_finished_study_is_published_and_an_unfinished_or_changed_one_is_refused(study):
    [command] = [line.partition("#")[0].split() for block in run_by(BLOCK) for line in block.text.splitlines()]
    assert command[0] == "snakemake" and command[-1] == "publish"
    shutil.copy(ROOT / "results" / "README.md", study.folder / "results")  # a clone has it
    study.run(*command[1:])
    folder = study.results / "publish"
    graph = {entity["@id"]: entity for entity in json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]}
    # every job of the study is there, with when it ran, and every table that a statistic made
    jobs = {name.removeprefix("#job/") for name in graph if name.startswith("#job/")}
    logs = study.results / "logs"
    ran = {path.relative_to(logs).as_posix().removesuffix(".log") for path in logs.rglob("*.log")} - {"make_crate"}
    assert jobs >= ran and {"fetch_model/tiny", "judge_claims", "plot_evidence"} <= jobs
    assert all(
        "startTime" in graph[f"#job/{job}"] and "object" in graph[f"#job/{job}"] for job in ran - {"fetch_corpus"}
    )
    assert {path.relative_to(study.results) for path in study.results.glob("statistics/**/*.parquet")} == {
        path.relative_to(folder) for path in folder.glob("statistics/**/*.parquet")
    }
    assert (folder / "pretraining/softmax/seed=0/model/README.md").is_file()
    links = set(re.findall(r'href="((?!#|data:)[^"]+)"', (folder / "index.html").read_text(encoding="utf-8")))
    assert links and {link for link in links if not (folder / link).is_file()} == set()
    assert json.loads((folder / "claims.jsonld").read_text())["@graph"]
    assert study.planned_jobs() == set(), "publishing changes nothing of the study"
    # a table is lost, so that the figures and claims are older than what they will be made from
    (study.results / "statistics/tiny/random_tokens/sink_mass.parquet").unlink()
    done = study.run("publish", check=False)
    said = " ".join(done.stderr.split())
    assert done.returncode and "sinkorigin: study tiny is not finished" in said and "Traceback" not in said
    assert "(snakemake --cores all, with the same config) and publish it then" in said
