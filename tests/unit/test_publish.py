"""A finished study becomes a folder that can be uploaded: a valid RO-Crate, and cards and records that agree with its tables."""

import csv
import hashlib
import importlib.resources
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

import sealed_study
from harness.publish.record import job_of, large, read_record
from scripts_by_hand import run_script
from sealed_study import STUDY, MadeUpStudy, ledger_rows, metadata, study_config
from sinkorigin.publish import markdown
from sinkorigin.publish.described_study import DescribedStudy
from sinkorigin.publish.reforms import MODULES
from sinkorigin.tables import read_json, write_json
from tiny_study import ROOT

CARD = "pretraining/softmax/seed=0/model/README.md"
CREATORS = [{"name": "Doe, Jane", "affiliation": "A University", "orcid": "0000-0002-1825-0097"}]


@pytest.fixture
def study(tmp_path, monkeypatch) -> MadeUpStudy:
    monkeypatch.chdir(tmp_path)
    return MadeUpStudy()


def study_with(monkeypatch, folder: Path, rows: list[dict]) -> MadeUpStudy:
    """A study with another ledger."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sealed_study, "ledger_rows", lambda: rows)
    return MadeUpStudy()


def publish(study: MadeUpStudy, told: Mapping[str, Any] = MappingProxyType({}), **settings) -> Path:
    """Publish a study with these settings; ``told`` replaces parameters of the rule."""
    seen = study.seen_by_publish(**({"creators": CREATORS} | settings))
    run_script("publish.py", STUDY, **seen | {"params": seen["params"] | dict(told)})
    return STUDY / "publish"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(path: Path) -> tuple[dict, str]:
    """Metadata and text of a card."""
    _, front, text = path.read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def answers(folder: Path) -> dict[str, str]:
    """Item of the checklist → its answer."""
    return dict(re.findall(r"^\| (\d[a-g]) \| [^|]+ \| (.+) \|$", (folder / "reforms.md").read_text(), re.MULTILINE))


# ---- the folder


def test_the_folder_has_the_tables_and_figures_and_names_with_hash_what_it_leaves_out(study):
    folder = publish(study)
    left_out = list(csv.DictReader((folder / "not_included.csv").open()))
    places = {row["file"] for row in left_out}
    assert places == {
        "activations/tiny/random_tokens/residual/layer=0/part-0.parquet", "corpus/documents.parquet",
        "pretraining/softmax/seed=0/model/config.json", "pretraining/softmax/seed=0/model/model.safetensors",
    }  # fmt: skip
    for row in left_out:
        assert not (folder / row["file"]).exists() and row["reason"]
        assert (row["sha256"], int(row["bytes"])) == (digest(STUDY / row["file"]), (STUDY / row["file"]).stat().st_size)
    for file in study.files:
        place = str(Path(file).relative_to(STUDY))
        assert place in places or digest(folder / place) == digest(Path(file))
    assert (folder / "code/Snakefile").read_text() == (ROOT / "Snakefile").read_text()
    assert not list((folder / "code").rglob("*.pyc")) and not (folder / "code/tests").exists()


def test_large_files_come_in_where_the_config_says_so(study):
    folder = publish(study, large_files=["activations", "texts", "weights"])
    assert (folder / "not_included.csv").read_text().splitlines() == ["file,bytes,sha256,reason"]
    assert (folder / "pretraining/softmax/seed=0/model/model.safetensors").read_text() == "weights"
    vectors = "activations/tiny/random_tokens/residual/layer=0/part-0.parquet"
    assert (folder / vectors).read_bytes() == (STUDY / vectors).read_bytes()
    assert "The weights lie beside this card." in (folder / CARD).read_text()


def test_configs_of_other_studies_and_profiles_are_not_published(study, tmp_path):
    root = tmp_path / "checkout"
    root.mkdir()
    for path in ROOT.iterdir():
        if path.name.startswith(("config", "profiles")):  # beside which this test writes
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, root / path.name)
        else:
            (root / path.name).symlink_to(path)
    for private in ("config.private.yaml", "config/mine.yaml", "profiles/slurm/mine.yaml"):
        (root / private).write_text("models: [{source: 'path:/home/me/model'}]\n")
    code = publish(study, {"root": str(root)}) / "code"
    shipped = {f"config{name}.yaml" for name in ("", ".models", ".robustness", ".ladder", ".paper")}
    assert {path.name for path in code.glob("config*.yaml")} == shipped
    assert [path.name for path in (code / "config").iterdir()] == ["README.md"] and not (code / "profiles").exists()


def test_the_attention_maps_that_the_page_links_to_come_in_without_the_edits():
    folder = "interventions/tiny/random_tokens"
    assert large(f"{folder}/attention_map.parquet") is None and large(f"{folder}/mechanism.parquet") == "activations"


def test_files_of_fetched_models_are_never_taken_in():
    assert large("models/tiny/model.safetensors") == "fetched" and large("models/tiny/manifest.json") is None


def test_the_same_study_gives_the_same_bytes(study):
    first = {path: digest(path) for path in sorted(publish(study).rglob("*")) if path.is_file()}
    assert len(first) > 300 and first == {
        path: digest(path) for path in sorted(publish(study).rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize(
    "name", ["statistics/tiny/random_tokens/sink_mass.parquet", "figures/evidence.svg", "provenance/tiny.json"]
)
def test_a_damaged_file_is_refused_with_what_to_do_and_nothing_is_made(name, study, capfd):
    path = STUDY / name
    path.write_bytes(
        path.read_bytes().replace(b"svg", b"gvs") if path.suffix == ".svg" else path.read_bytes()[:-9] + b"#########"
    )
    with pytest.raises(SystemExit):
        publish(study)
    [said] = capfd.readouterr().err.splitlines()
    assert said.startswith(f"sinkorigin: {path} ") and f"delete {path} and run the same command again" in said
    assert not (STUDY / "publish").exists()


# ---- the crate


def test_each_job_is_an_action_with_its_times_its_code_and_what_it_read_and_made(study):
    folder = publish(study)
    graph = metadata(folder)
    job = graph["#job/compute_sinks/tiny/random_tokens"]
    assert job["@type"] == "CreateAction" and job["instrument"] == {"@id": "code/workflow_scripts/compute.py"}
    assert (job["startTime"], job["endTime"]) == ("2026-01-02T03:04:06+00:00", "2026-01-02T03:04:09+00:00")
    assert job["object"] == {"@id": "activations/tiny/random_tokens/residual/manifest.json"}
    assert job["result"] == {"@id": "statistics/tiny/random_tokens/sink_mass.parquet"}
    assert "code version 0123456789abcdef" in job["description"]
    # a figure carries no seal: what it was made of is what its rule says
    assert graph["#job/plot_evidence"]["object"] == {"@id": "claims.parquet"}
    # what is left out is named where it was read
    training = graph["#job/pretrain/softmax/seed=0"]
    documents = graph[training["object"]["@id"]]
    assert documents["name"] == "corpus/documents.parquet" and documents["sha256"] == digest(STUDY / documents["name"])
    run = graph["#run"]
    assert run["startTime"] == "2026-01-02T03:04:01+00:00" and run["instrument"] == {"@id": "code/Snakefile"}
    assert {"@id": "config.yaml"} in run["object"]


def test_every_file_has_its_hash_and_what_it_is(study):
    folder = publish(study)
    graph = metadata(folder)
    table = graph["statistics/tiny/random_tokens/sink_mass.parquet"]
    assert table["sha256"] == digest(folder / table["@id"]) and table["contentSize"] == str(
        (folder / table["@id"]).stat().st_size
    )
    assert table["description"] == "one row for each layer; columns layer, mass"
    files = [entity for entity in graph.values() if entity["@type"] == "File"]
    assert len(files) > 15 and all((folder / file["name"]).is_file() and file["description"] for file in files)
    assert {path.name for path in (folder / "statistics").rglob("*.parquet")} <= {
        Path(file["@id"]).name for file in files
    }


def test_a_log_without_its_beginning_gives_times_from_when_it_was_written(study):
    log = STUDY / "logs/compute_sinks/tiny/random_tokens.log"
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if not line.startswith("began")))
    [job] = [job for job in read_record(study.files, {}, 1).jobs if job.rule == "compute_sinks"]
    assert (job.end - job.start).total_seconds() == 3.0 and job.end.timestamp() == pytest.approx(
        log.stat().st_mtime, abs=1e-3
    )
    log.unlink()
    [job] = [job for job in read_record(study.files, {}, 1).jobs if job.rule == "compute_sinks"]
    assert (job.start, job.end, job.code) == (None, None, None)


@pytest.mark.parametrize(
    ("log", "job"),
    [
        ("results/tiny/logs/judge_claims.log", "judge_claims"),
        ("sinks/results/tiny/logs/compute_sinks/logs/random_tokens.log", "compute_sinks/logs/random_tokens"),
        ("results/logs/fetch_model/tiny.log", "fetch_model/tiny"),
    ],
)
def test_a_job_is_named_by_its_log(log, job):
    assert job_of(log) == job


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        ("Llama 3.2 Community License", "Llama 3.2 Community License"),
        ("gemma", "gemma"),
        ("MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("apache-2.0", {"@id": "https://spdx.org/licenses/Apache-2.0"}),
    ],
)
def test_only_a_licence_of_the_spdx_list_has_an_address_there(licence, told, study):
    write_json(study.provenance, read_json(study.provenance) | {"licence": licence})
    graph = metadata(publish(study))
    assert graph["#source/fetch_model/tiny"]["license"] == told
    assert not any(" " in identifier for identifier in graph)


# without a network: what the validator asks for is put into its cache
VALIDATE = """
import io, json, sys
from pathlib import Path
from requests.adapters import BaseAdapter, HTTPAdapter
from requests_cache import CachedSession
from rocrate_validator import services
from urllib3 import HTTPResponse

crate, context, cache = sys.argv[1:]

class Answer(BaseAdapter):
    def send(self, request, **_):
        body, kind = io.BytesIO(Path(context).read_bytes()), {"Content-Type": "application/ld+json"}
        return HTTPAdapter().build_response(request, HTTPResponse(body=body, headers=kind, status=200, preload_content=False))

    def close(self):
        pass

session = CachedSession(cache, backend="sqlite", expire_after=-1)
session.mount("https://", Answer())
session.get("https://w3id.org/ro/crate/1.1/context")
session.close()
settings = services.ValidationSettings(
    rocrate_uri=crate, profile_identifier="provenance-run-crate", requirement_severity="RECOMMENDED", offline=True, cache_path=cache
)
print(json.dumps([[issue.severity.name, issue.check.identifier, issue.message] for issue in services.validate(settings).get_issues()]))
"""
# terms whose address is another one in RO-Crate 1.3, of which rocrate holds the context, than in 1.1, to which the profile belongs
TERMS_OF_1_1 = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}
# what is recommended and not known: addresses of a repository and of institutions, and a publisher, which the archive is
NOT_KNOWN = {"process-run-crate-0.5_3.2", "process-run-crate-0.5_5.1", "ro-crate-1.1_31.2", "ro-crate-1.1_22.3"}


def validator() -> str:
    """A Python that has roc-validator."""
    for python in (ROOT / ".venv/validator/bin/python", sys.executable):
        if (
            Path(python).exists()
            and subprocess.run([python, "-c", "import rocrate_validator"], capture_output=True).returncode == 0
        ):
            return str(python)
    pytest.skip("roc-validator is not installed (make validator installs it)")


def test_the_validator_of_ro_crates_accepts_it(study, tmp_path):
    python = validator()
    folder = publish(study)
    known = json.loads((importlib.resources.files("rocrate") / "data/ro-crate.jsonld").read_text())
    known["@context"] |= TERMS_OF_1_1
    (tmp_path / "context.json").write_text(json.dumps(known))
    command = [python, "-c", VALIDATE, folder, tmp_path / "context.json", tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    issues = json.loads(done.stdout.splitlines()[-1])
    assert [issue for issue in issues if issue[0] == "REQUIRED" or issue[1] not in NOT_KNOWN] == []


# ---- records and cards

# items of the checklist that name the sources of text
CORPUS_ITEMS = ("2a", "3a", "3g", "4a", "5c")


def test_each_verdict_is_a_review_of_a_claim_with_its_value_interval_and_threshold(study):
    graph = {entity["@id"]: entity for entity in json.loads((publish(study) / "claims.jsonld").read_text())["@graph"]}
    reviews = [entity for entity in graph.values() if entity["@type"] == "ClaimReview"]
    assert [review["reviewRating"]["alternateName"] for review in reviews] == [row["verdict"] for row in ledger_rows()]
    assert [review["reviewRating"].get("ratingValue") for review in reviews] == [1, -1, 0, None]
    sink, falls, ours, _ = reviews
    observation = graph[sink["isBasedOn"][0]["@id"]]["value"]
    assert (observation["value"], observation["minValue"], observation["maxValue"]) == (1.0, 0.9, 1.0)
    told = {one["name"]: one["value"] for one in observation["additionalProperty"]}
    assert (told["threshold"], told["first token"], told["prompts"], told["settings"]) == (
        0.5,
        "drawn",
        "random_tokens",
        3,
    )
    assert graph[falls["isBasedOn"][0]["@id"]]["value"]["maxValue"] is None  # infinite, which JSON cannot say
    assert "appearance" in graph[sink["itemReviewed"]["@id"]] and "appearance" not in graph[ours["itemReviewed"]["@id"]]
    assert graph[sink["about"]["@id"]]["name"] == "Tiny <b>model</b> | of tests"


def test_no_two_records_have_the_same_identifier(tmp_path, monkeypatch):
    first = ledger_rows()[0]
    rows = [
        first | {"model": model, "label": model, "prompts": prompts} for model, prompts in (("a-b", "c"), ("a", "b-c"))
    ]
    records = json.loads((publish(study_with(monkeypatch, tmp_path, rows)) / "claims.jsonld").read_text())["@graph"]
    identifiers = [record["@id"] for record in records]
    assert len(set(identifiers)) == len(identifiers) and "#review/C0/a-b/c/drawn" in identifiers


def test_the_card_of_a_model_tells_its_training_its_data_and_its_numbers(study):
    front, text = card(publish(study) / CARD)
    assert front["license"] == "apache-2.0" and front["library_name"] == "transformers"
    metrics = {
        metric["type"]: metric["value"] for result in front["model-index"][0]["results"] for metric in result["metrics"]
    }
    assert metrics == {"validation_loss": 3.1, "effective_rank": 5.25}
    assert "1,234 parameters" in text and "5,678 tokens" in text and "What it is not for" in text
    assert digest(STUDY / "pretraining/softmax/seed=0/model/model.safetensors") in text and "`path:text`" in text


def test_the_card_of_the_tables_tells_findings_tables_and_what_is_missing(study):
    folder = publish(study)
    front, text = card(folder / "README.md")
    configs = {config["config_name"]: config for config in front["configs"]}
    assert configs["claims"]["default"] and configs["sink_mass"]["data_files"] == "statistics/*/*/sink_mass.parquet"
    assert {path for config in configs.values() for path in folder.glob(config["data_files"])} == set(
        folder.rglob("*.parquet")
    )
    assert "8 of 8 sequences" in text and "Not included: 2 files" in text
    assert r"Tiny \<b\>model\</b\> \| of tests" in text
    package = json.loads((folder / "datapackage.json").read_text())
    [masses] = [one for one in package["resources"] if one["name"] == "sink_mass"]
    assert masses["schema"]["fields"][1] == {
        "name": "mass",
        "type": "number",
        "description": "mean attention | to position 0",
    }


def test_a_label_and_a_title_are_shown_as_they_are_written(tmp_path, monkeypatch):
    written = "a_b_*c* <img src=http://x/t.png> [a](http://x) `d` | # e\\\nf"
    rows = [row | ({"label": written} if row["model"] == "tiny" else {}) for row in ledger_rows()]
    folder = publish(study_with(monkeypatch, tmp_path, rows), title=written)
    shown = escape(written.replace("\n", " "))
    for text, times in ((card(folder / "README.md")[1], 3), ((folder / "reforms.md").read_text(), 3)):
        page = MarkdownIt("commonmark").enable("table").render(text)
        assert page.count(shown) == times
        assert not any(made in page for made in ("<img", "<b>", "<em>c", 'href="http://x"', "<code>d</code>"))


def test_a_bar_ends_no_cell_whether_it_is_escaped_already_or_not():
    assert markdown.table(("a",), [("x|y",), (markdown.escaped("x|y"),)]).splitlines()[2:] == [r"| x\|y |"] * 2


def test_the_checklist_answers_all_items_of_reforms_from_the_study(study):
    rows = answers(publish(study))
    codes = [item.code for items in MODULES.values() for item in items]
    assert len(MODULES) == 8 and len(codes) == 32 and codes == sorted(codes)
    assert list(rows) == codes and all(len(answer) > 20 for answer in rows.values())
    assert (
        "Linux x86_64, 2 × a processor, 8 GB" in rows["2c"]
        and "1 reproduced, 1 contradicted, 1 undecided and 1 not applicable" in rows["7c"]
    )
    assert (
        "1 train" not in rows["3a"]
        and "2 train and 1 validation" in rows["3a"]
        and "pypi:a==1, pypi:b==1" in rows["2a"]
    )


@pytest.mark.parametrize("documents", [{"train": 2, "validation": 1}, {}])
def test_the_checklist_names_the_corpora_that_were_read_and_no_other(documents):
    config = study_config()
    separate = config["corpus"] | {"source": "path:poems", "validation_share": 0.25, "documents": 9, "members": None}
    config["pretraining"]["data"][0]["corpus"] = separate
    known = {
        "config": config, "provenance": {}, "documents": documents,
        "trainings": [{"run": "softmax", "seed": 0, "variant": "softmax"}],
    }  # fmt: skip
    study = DescribedStudy(**{field.name: known.get(field.name, ()) for field in fields(DescribedStudy)})
    told = {item.code: item.answer(study) for items in MODULES.values() for item in items if item.code in CORPUS_ITEMS}
    assert all(("`path:text`" in answer) == bool(documents) and "`path:poems`" in answer for answer in told.values())
    assert "25 % of the documents of `path:poems`" in told["5c"] and "the first 9 documents" in told["4a"]
    assert ("40 % of the documents of `path:text`" in told["5c"]) == bool(documents)


def test_a_study_without_trainings_without_text_and_without_models_is_published_too(study):
    """What it has not is said not to apply; nobody trained, read or fetched anything."""
    gone = ("pretraining/", "statistics/pretraining", "corpus/", "provenance/")
    study.files = {
        file: log for file, log in study.files.items() if not file.startswith(tuple(f"{STUDY}/{part}" for part in gone))
    }
    (STUDY / "corpus/documents.parquet").unlink()
    for table in STUDY.glob("statistics/*.parquet"):
        table.unlink()
    seen = study.seen_by_publish(creators=CREATORS)
    seen["params"]["config"]["pretraining"]["runs"] = []
    run_script("publish.py", STUDY, **seen | {"params": seen["params"] | {"provenances": [], "models": []}})
    rows = answers(STUDY / "publish")
    assert not any("path:text" in answer for answer in rows.values())
    assert [code for code, answer in rows.items() if "Not applicable" in answer] == [
        "3a",
        "5a",
        "5b",
        "5c",
        "5d",
        "5e",
        "6a",
        "6b",
        "6c",
    ]
    assert not list((STUDY / "publish").rglob("model/README.md")) and (STUDY / "publish/README.md").is_file()


def test_zenodo_gets_who_publishes_and_under_which_licence(study):
    told = json.loads((publish(study, licence="CC-BY-4.0", title="A study of sinks") / ".zenodo.json").read_text())
    assert (told["title"], told["license"], told["creators"]) == ("A study of sinks", "cc-by-4.0", CREATORS)
    assert told["related_identifiers"][0]["identifier"].startswith("https://arxiv.org/abs/")


def test_without_creators_nobody_is_invented(study):
    folder = publish(study, creators=[])
    assert json.loads((folder / ".zenodo.json").read_text())["creators"] == []
    assert "author" not in metadata(folder)["./"] and "agent" not in metadata(folder)["#run"]
