"""The folder of a published study: files of the study, cards, records, and a copy of the workflow."""

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from harness.publish.crate import Contents, Rule, write_crate
from harness.publish.record import StudyFile, StudyRecord
from harness.table_catalogue import described
from sinkorigin.publish.claim_records import claim_records
from sinkorigin.publish.data_card import TableKind, data_card, data_package
from sinkorigin.publish.described_study import DescribedStudy
from sinkorigin.publish.model_card import model_card
from sinkorigin.publish.reforms import checklist
from sinkorigin.publish.zenodo import zenodo_metadata
from sinkorigin.tables import write_text

# by name: beside them may lie configs of other studies, which are not to be published
_CONFIGS = ("config.yaml", "config.models.yaml", "config.robustness.yaml", "config.ladder.yaml", "config.paper.yaml")
# of the checkout, what runs a study and explains it; no tests, no benchmarks, no results, no profiles, which may name an account
_WORKFLOW = (
    "Snakefile", *_CONFIGS, "rules/*.smk", "workflow/Snakefile", "workflow_scripts/**/*.py", "workflow_scripts/**/*.yaml",
    "src/**/*.py",
    "src/**/py.typed", "src/**/templates/*", "src/**/assets/*", "schemas/*.json", "envs/*.yaml",
    "captions/*.rst", "docs/*.md", "config/README.md", "README.md", "results/README.md",
    "LICENSE", "CITATION.cff", "CHANGELOG.md", "pyproject.toml", "requirements.lock", "Makefile", "Dockerfile",
)  # fmt: skip
# what takes a file in → why it is left out without
_REASONS = {
    "activations": "activations, attention scores and tables of single edits are large; publish.large_files: [activations] takes them in",
    "texts": "texts of a corpus may not be yours to publish; publish.large_files: [texts] takes them in",
    "weights": "weights of models trained here are large; publish.large_files: [weights] takes them in",
    "fetched": "files of fetched models are to be had from the sources that config.yaml names",
}
_WEIGHTS = ".safetensors"


def write_folder(
    folder: Path,
    root: Path,
    study: DescribedStudy,
    record: StudyRecord,
    *,
    settings: Mapping[str, Any],
    rules: Mapping[str, Rule],
    engine: str,
) -> None:
    """Write everything into a new folder.

    Args:
        folder: empty.
        root: of the workflow.
        settings: the config as it was given, to run the study again with.
        rules: name → rule.
        engine: version of Snakemake.
    """
    wanted = set(study.publication["large_files"])
    files = [file for file in record.files if file.large is None or file.large in wanted]
    for file in files:
        _link(file.path, folder / file.place)
    kinds = _table_kinds(files, root)
    what = {place: f"{kind.what}; columns {', '.join(kind.schema.names)}" for kind in kinds for place in kind.places}
    made_by = {place: rules[job.rule].description for job in record.jobs for place in job.outputs}
    descriptions = {
        file.place: what.get(file.place) or made_by.get(file.place, "part of a folder of the study") for file in files
    }
    left_out = [file for file in record.files if file.large is not None and file.large not in wanted]
    _copy_workflow(root, folder / "code")
    added = {}
    for place, (text, description) in _texts(study, record, kinds, settings, left_out, wanted).items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / place, text)
        added[place] = description
    write_crate(folder, study, record, Contents(files, descriptions, kinds, added), rules, engine)


def _link(source: Path, target: Path) -> None:
    """Have a file in the folder too, without a second copy of its content where the file system can.

    A link that is no symbolic one is a file like any other: in an archive, on the way to Zenodo or the hub, and after the study is
    deleted. The workflow replaces its files and never writes into them, so that a later run does not change what was published.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without such links
        shutil.copyfile(source, target)


def _copy_workflow(root: Path, folder: Path) -> None:
    for pattern in _WORKFLOW:
        for path in sorted(root.glob(pattern)):
            target = folder / path.relative_to(root)
            if path.is_file() and "__pycache__" not in path.parts:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def _table_kinds(files: Sequence[StudyFile], root: Path) -> list[TableKind]:
    """Tables by the row of results/README.md that describes them; each carries its columns itself."""
    known = described((root / "results/README.md").read_text(encoding="utf-8"))
    tables = [file for file in files if file.path.suffix == ".parquet"]
    found: dict[str, list[StudyFile]] = {}
    for file in tables:
        place = next((place for place in known if _pattern(place).fullmatch(file.place)), file.place)
        found.setdefault(place, []).append(file)
    kinds = []
    for place, own in sorted(found.items()):
        schema = max(
            (pq.read_schema(file.path) for file in own), key=len
        )  # one that is not applicable may have no columns
        what = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", known[place][1] if place in known else "table of the study")
        kinds.append(TableKind(_name(place), _starred(place), what.rstrip("."), schema, [file.place for file in own]))
    return kinds


def _pattern(place: str) -> re.Pattern:
    parts = re.split(r"(\{\w+\}|…)", place)
    return re.compile(
        "".join("[^/]+" if part.startswith("{") else ".+" if part == "…" else re.escape(part) for part in parts)
    )


def _starred(place: str) -> str:
    return re.sub(r"\{\w+\}", "*", place).replace("…", "**")


def _name(place: str) -> str:
    """Name of a kind of table: its folders without wildcards, but for the statistics, which have names of their own."""
    parts = [part for part in place.removesuffix(".parquet").split("/") if "{" not in part and part != "…"]
    if "{" in place.rpartition("/")[2]:
        return "/".join(parts)
    return parts[-1] if parts[0] == "statistics" else "/".join(parts)


def _texts(
    study: DescribedStudy,
    record: StudyRecord,
    kinds: Sequence[TableKind],
    settings: Mapping[str, Any],
    left_out: Sequence[StudyFile],
    wanted: set[str],
) -> dict[str, tuple[str, str]]:
    """Place → text and description of every file that is made for the folder."""
    sentences = list(_told(left_out))
    summary = (
        f"Tables, figures and verdicts of a study that tests the claims of “{study.paper['title']}” ({study.paper['url']}) in "
        "language models, with the "
        f"provenance of every file (RO-Crate). {' '.join(sentences)}"
    )
    found = {
        "README.md": (str(data_card(study, kinds, sentences)), "card of the tables"),
        "datapackage.json": (
            _json(data_package(study, kinds)),
            "columns of all tables, as a Frictionless data package",
        ),
        "claims.jsonld": (_json(claim_records(study)), "verdicts on the claims, as records of schema.org"),
        "reforms.md": (checklist(study), "checklist of REFORMS, filled in"),
        "config.yaml": (yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True), "settings of the study"),
        "not_included.csv": (_csv(left_out), "files of the study that are not in this folder, with size and sha256"),
        ".zenodo.json": (_json(zenodo_metadata(study, summary)), "metadata for Zenodo"),
    }
    folders: dict[str, list[StudyFile]] = {}
    for file in record.files:
        folders.setdefault(str(Path(file.place).parent), []).append(file)
    for name, facts in study.provenance.items():
        if facts["weights"] != "trained here":
            continue
        # beside the weights, if these are taken in: the form of a repository of the hub
        place = f"pretraining/{facts['training']['name']}/seed={facts['seed']}/model"
        listed = [
            {"name": Path(file.place).name, "bytes": file.bytes, "sha256": file.sha256}
            for file in folders[place]
            if file.large is not None
        ]
        where = "The weights lie beside this card." if "weights" in wanted else (
            "The weights do not lie beside this card: who ran the study has them, and `publish.large_files: [weights]` takes "
            "them in."
        )  # fmt: skip
        card = str(model_card(study, name, listed, where))
        found[f"{place}/README.md"] = (card, f"card of the model {facts['label']}")
    return found


def _told(left_out: Sequence[StudyFile]) -> Iterable[str]:
    """A sentence for each kind of file that was left out."""
    for word in dict.fromkeys(file.large for file in left_out):
        own = [file for file in left_out if file.large == word]
        size = sum(file.bytes for file in own) / 1e6
        told = f"{size:.0f} MB" if size < 1000 else f"{size / 1000:.1f} GB"
        yield f"Not included: {len(own)} files ({told}). {_REASONS[str(word)][0].upper()}{_REASONS[str(word)][1:]}."


def _csv(left_out: Sequence[StudyFile]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "bytes", "sha256", "reason"])
    writer.writerows([file.place, file.bytes, file.sha256, _REASONS[str(file.large)]] for file in left_out)
    return text.getvalue()


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
