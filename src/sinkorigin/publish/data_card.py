"""The card of a study's tables, in the form of the Hugging Face hub, and their description as a Frictionless data package.

A data package names each column with its type and meaning, which neither the hub's card nor an RO-Crate has a place for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from huggingface_hub import DatasetCard, DatasetCardData

from sinkorigin.claims.findings import findings
from sinkorigin.publish.described_study import DescribedStudy
from sinkorigin.publish.markdown import escaped, joined, quoted, table


@dataclass(frozen=True)
class TableKind:
    """Tables with the same columns: a statistic of every model and prompt set, for instance.

    Attributes:
        name: in the card and the viewer of the hub.
        pattern: of the places of its tables, with a star for each name that differs.
        what: what a row is.
        schema: columns with their descriptions.
        places: of its tables.
    """

    name: str
    pattern: str
    what: str
    schema: pa.Schema
    places: Sequence[str]


def column_type(type_: pa.DataType) -> str:
    """Type of a column as a data package calls it."""
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "integer"
    if pa.types.is_floating(type_):
        return "number"
    return "array" if pa.types.is_nested(type_) else "string"


def description(field: pa.Field) -> str:
    """What a column is."""
    return (field.metadata or {}).get(b"description", b"").decode()


def data_package(study: DescribedStudy, kinds: Sequence[TableKind]) -> dict[str, Any]:
    """All tables with their columns, as datapackage.json."""
    return {
        "profile": "data-package",
        "name": study.name.lower(),
        "title": study.title,
        "licenses": [{"name": study.licence}],
        "resources": [
            {
                "name": kind.name.replace("/", "-"),
                "description": kind.what,
                "path": list(kind.places),
                "format": "parquet",
                "mediatype": "application/vnd.apache.parquet",
                "schema": {
                    "fields": [
                        {"name": field.name, "type": column_type(field.type), "description": description(field)}
                        for field in kind.schema
                    ]
                },
            }
            for kind in kinds
        ],
    }


def data_card(study: DescribedStudy, kinds: Sequence[TableKind], left_out: Sequence[str]) -> DatasetCard:
    """The card.

    Args:
        left_out: sentences on what the folder does not have.
    """
    tables, columns = sum(len(kind.places) for kind in kinds), sum(len(kind.schema) for kind in kinds)
    metadata = DatasetCardData(
        license=study.licence.lower(),
        pretty_name=study.title,
        tags=["attention-sink", "interpretability", "reproduction", "transformers"],
        annotations_creators=["machine-generated"],
        configs=[
            {"config_name": kind.name.replace("/", "-"), "data_files": kind.pattern, "default": kind.name == "claims"}
            for kind in kinds
        ],
    )
    found = "\n".join(f"- **{finding.heading}.** {escaped(finding.sentence)}" for finding in findings(study.ledger))
    own = len({row["claim"] for row in study.ledger})
    text = f"""# {escaped(study.title)}

What is measured here is where attention sinks come from: {len(study.ledger)} verdicts on {own} claims of, or beside,
"{study.paper["title"]}" ({study.paper["url"]}), with the tables that they rest on. The models are {_models(study)}. {study.software} made all of it; nothing was
written by hand.

## What was found

{found}

## What is in it

{tables} Parquet tables of {len(kinds)} kinds with {columns} columns. Each file carries the descriptions of its columns, and so does
`datapackage.json`. `claims.parquet` has the verdicts, `robustness.parquet` every other setting in which a claim was tried, `checks.parquet`
controls and identities. Layers and positions are counted from 0; `x_low` and `x_high` are the ends of the 95 % interval of `x`; null is not
defined. Models trained here are called `{{run}}-seed{{seed}}`.

{table(("table", "what it holds", "files", "columns"), [_row(kind) for kind in kinds])}

| file | |
|---|---|
| `ro-crate-metadata.json` | which job made which file from which, when, with which code; a Provenance Run Crate |
| `claims.jsonld` | the verdicts as records of schema.org |
| `reforms.md` | the checklist of REFORMS, filled in |
| `config.yaml`, `code/` | the settings of the study, and the workflow that ran |
| `figures/` | the figures |
| `pretraining/*/*/model/README.md` | a card for each model trained here |
| `not_included.csv` | what is not in this folder, with size and sha256 |
| `datapackage.json` | the columns of all tables |

## How it was made

{_prompts(study)} {_corpus(study)} Intervals resample sequences (text: documents) {study.config["statistics"]["replicates"]} times, and each
verdict is of a whole 95 % interval, with Holm's correction over the claims of a model. `code/README.md` says how to run it again;
`snakemake --cores all --snakefile code/Snakefile --configfile config.yaml` does.

## What to mind

- A verdict is about the models above, in the precision {study.config["dtype"]}; models trained here are small, and say nothing about
  larger ones.
- Numbers of a dequantised model are those of what dequantisation gave, and its label says so.
{chr(10).join(f"- {sentence}" for sentence in left_out)}
"""
    return DatasetCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}", ignore_metadata_errors=False)


def _models(study: DescribedStudy) -> str:
    parts = [escaped(model["label"]) for model in study.of_role("pretrained")]
    controls, trainings = len(study.of_role("random")), len(study.trainings)
    parts += [f"{controls} control{'' if controls == 1 else 's'} with random weights"] if controls else []
    parts += [f"those of {trainings} small trainings"] if trainings else []
    return joined(parts)


def _row(kind: TableKind) -> tuple[str, ...]:
    return quoted(kind.pattern), kind.what, str(len(kind.places)), str(len(kind.schema))


def _prompts(study: DescribedStudy) -> str:
    told = [
        f"{one['name']} ({one['kind'].replace('_', ' ')}: {one['sequences']} sequences of {one['length']} tokens, first token "
        f"{one['first_token']}, seed {one['seed']})"
        for one in study.config["prompts"]
    ]
    return f"Prompt sets: {joined(told)}."


def _corpus(study: DescribedStudy) -> str:
    if not study.documents:
        return ""
    counts = joined(f"{number} {split}" for split, number in study.documents.items())
    return (
        f"Text comes from {quoted(study.config['corpus']['source'])} ({counts} documents; only the validation documents become "
        "prompts)."
    )
