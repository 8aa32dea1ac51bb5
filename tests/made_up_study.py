"""A study of made-up tables, small enough that its page is made in a second: what the rule ``make_page`` gives its script."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from sinkorigin.claims import checks
from sinkorigin.claims.accounts import SCHEMA as ACCOUNTS_SCHEMA
from sinkorigin.claims.judging import LEDGER_SCHEMA, ROBUSTNESS_SCHEMA
from sinkorigin.interventions.attention_map import SCHEMA as MAP_SCHEMA
from sinkorigin.interventions.schemas import SCHEMAS
from sinkorigin.page.facts import RunRecord
from sinkorigin.statistics import interventions, keys, mediation
from sinkorigin.tables import write_json, write_table

LAYERS, HEADS, LENGTH, TARGET = 3, 2, 8, 2
SVG = (
    '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt" viewBox="0 0 72 36">\n'
    '<style>*{stroke-linejoin: round}</style>\n<rect id="a&quot;b" width="70" height="30" fill="#0072b2"/><text x="2" y="20">50 %</text></svg>\n'
)


def rows_of(schema: pa.Schema, rows: list[dict]) -> pa.Table:
    """Rows of which each names some columns; the others are null, and empty lists."""
    blank = {one.name: [] if pa.types.is_list(one.type) else None for one in schema}
    return pa.Table.from_pylist([blank | row for row in rows], schema=schema)


@dataclass
class MadeUp:
    """Files and parameters of the job, see :func:`sinkorigin.page.assembly.page_of_study`."""

    folder: Path
    files: dict[str, list[str]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    record: RunRecord = field(default_factory=RunRecord)

    def write(self, name: str, schema: pa.Schema, rows: list[dict], *place: str) -> None:
        """Add a table at a place below the study's folder."""
        path = self.folder.joinpath(*place, f"{name}.parquet")
        write_table(path, rows_of(schema, rows), schema)
        self.files.setdefault(name, []).append(str(path))


def ledger_row(claim: str, words: str, model: str, label: str, **more: Any) -> dict:
    """A row of the ledger, reproduced unless it says otherwise."""
    return {
        "claim": claim, "words": words, "model": model, "label": label, "role": "pretrained", "prompts": "random_tokens",
        "first_token": "drawn", "statement": f"{words}, in a sentence", "scale": "difference", "paper": "as here",
        "quantity": "share of the sequences", "value": 0.9, "low": 0.8, "high": 0.95, "predicate": "> 0.5", "threshold": 0.5,
        "reading": "so it is in 90 % of the sequences", "verdict": "reproduced", "reason": "9 of 10 sequences; and more",
        "p": 1e-4, "p_adjusted": 2e-4, "holds": 2, "opposite": 0, "settings": 2,
        "tables": [f"statistics/{model}/random_tokens/query_alignment.parquet"],
    } | more  # fmt: skip


def made_up(folder: Path, labels: dict[str, str] | None = None, *, edits: bool = True, runs: bool = True) -> MadeUp:
    """A study of models with these labels, whose results lie below ``folder``.

    Args:
        labels: name of a model → its label.
        edits: whether there are interventions.
        runs: whether models are trained.
    """
    labels = {"m": "M, dequantised from Q4_1"} if labels is None else labels
    study = MadeUp(folder / "results" / "study")
    study.files = {
        name: [] for name in ("claims", "robustness", "checks", "accounts", "provenance", "pretraining_comparison", "edited")
    }  # fmt: skip
    ledger, robustness = [], []
    for model, label in labels.items():
        rows = [
            ledger_row("C0", "position 0 is a sink", model, label),
            ledger_row("C1", "variance highest at position 0", model, label, value=1.5, low=1.2, high=1.9, predicate="> 1", threshold=1.0),
            ledger_row("C7b", "key is that of one dim", model, label, verdict="contradicted", value=0.2, low=0.1, high=0.3),
            ledger_row("C4", "sink begins at the norm surge", model, label, verdict="undecided"),
        ]  # fmt: skip
        if edits:
            rows.append(ledger_row("C9", "mask makes a sink", model, label))
        none = {
            "value": None,
            "low": None,
            "high": None,
            "reading": None,
            "verdict": "not applicable",
            "p": None,
            "p_adjusted": None,
        }
        rows.append(
            ledger_row(
                "C2", "variance falls with position", model, label, **none, reason="the reason", settings=0, holds=0
            )
        )
        ledger += rows
        robustness += [
            {name: row[name] for name in ROBUSTNESS_SCHEMA.names if name in row}
            | {"setting": setting, "read_on": "random_tokens"}
            for row in rows
            for setting in ("primary", "threshold 0.6")
        ]
        _statistics(study, model, edits=edits)
    if runs:
        facts = {"role": "run", "prompts": None, "first_token": None}
        ledger.append(
            ledger_row(
                "C12b",
                "head-wise RMSNorm ends lower",
                "headwise",
                "headwise (scale per_head)",
                **facts,
                verdict="contradicted",
            )
        )
    study.write("claims", LEDGER_SCHEMA, ledger)
    study.write("robustness", ROBUSTNESS_SCHEMA, robustness)
    about = {
        "model": "m",
        "label": next(iter(labels.values()), ""),
        "prompts": "random_tokens",
        "predicate": "< 0.1",
        "value": 0.0,
    }
    study.write(
        "checks",
        checks.SCHEMA,
        [about | {"check": "a check", "statement": "a control makes no sink", "verdict": "passed"}],
    )
    predicted = ledger_row("drain-1", "values drain", "m", about["label"]) | {
        "account": "value drain",
        "source": "Guo et al. 2024",
    }
    study.write("accounts", ACCOUNTS_SCHEMA, [predicted])
    figure = study.folder / "figures" / "variance_by_position.svg"
    figure.parent.mkdir(parents=True)
    figure.write_text(SVG)
    study.files["figures"] = [str(figure)]
    caption = "Variance over sequences of the *value aggregation*: more of it.\nA band.\n\nLook for: a fall."
    study.about = {
        "study": "study", "trainings": "1 small model trained here" if runs else "", "missing": [], "undrawn": [], "repository": "",
        "models": [
            {"name": model, "label": label, "role": "pretrained", "source": "path:x", "licence": None, "controls": []}
            for model, label in labels.items()
        ],
        "prompts": [{"name": "random_tokens", "text": "10 × 8 tokens"}],
        "charts": [(name, table) for name, table in CHARTS],
        "figures": [{"name": "variance_by_position", "caption": caption}],
        "makers": {"query_alignment": {"rule": "compute_keys", "file": "rules/statistics.smk", "module": "src/keys.py"}},
    }  # fmt: skip
    return study


CHARTS = [
    ("sink_map", "query_alignment"),
    ("attention_map", "attention_map"),
    ("sink_under_edit", "edited"),
    ("dose_response", "intervention_layers"),
]


def _statistics(study: MadeUp, model: str, *, edits: bool) -> None:
    """Statistics of one model, and its edits."""
    place = ("statistics", model, "random_tokens")
    names = {"model": model, "prompts": "random_tokens"}
    study.write(
        "query_alignment", keys.QUERY_ALIGNMENT_SCHEMA,
        [
            names | {"layer": layer, "head": head, "mass": (layer + head) / 6, "positive_ratio": 0.5, "alignment": 0.3}
            for layer in range(LAYERS) for head in range(HEADS)
        ],
        *place,
    )  # fmt: skip
    if not edits:
        return
    edit = {
        "intervention": "variance_amplification", "kind": "variance_amplification", "site": "value_aggregation", "layers": [0],
        "positions": [TARGET],
    }  # fmt: skip
    study.write(
        "intervention_layers", interventions.LAYERS_SCHEMA,
        [
            names | edit | {"strength": strength, "target": TARGET, "layer": layer, "score": 0.1 * strength, "score_low": 0.0, "score_high": 0.9}
            for strength in (2.0, 8.0) for layer in range(LAYERS)
        ],
        *place,
    )  # fmt: skip
    cause = {"cause": "mask", "kind": "mask", "strength": 1.0, "layers": [0], "target": TARGET}
    whole = {"sequences": 10, "score": 0.2, "unedited": 0.05, "sinks": 7}
    link = {
        "mediator": "value aggregation",
        "mediator_layers": [0],
        "share": 0.97,
        "share_low": 0.9,
        "share_high": 1.02,
    }
    study.write(
        "mediation", mediation.SCHEMA,
        [
            names | cause | whole | {"direction": "all"},
            *(names | cause | whole | link | {"direction": direction} for direction in ("inserted", "restored")),
        ],
        *place,
    )  # fmt: skip
    pairs = [(query, key) for query in range(LENGTH) for key in range(query + 1)]
    study.write(
        "attention_map", MAP_SCHEMA,
        [
            cause | {"layer": layer, "query": query, "key": key, "unedited": 1 / (query + 1), "edited": 0.5}
            for layer in (None, 1) for query, key in pairs
        ],
        "interventions", model, "random_tokens",
    )  # fmt: skip
    folder = study.folder / "interventions" / model / "random_tokens"
    positions = [{"layer": layer, "position": k, "score": 0.1} for layer in range(LAYERS) for k in range(LENGTH)]
    baseline = {"intervention": "baseline", "kind": "baseline"}
    for where, identity in ((("baseline",), baseline), (("edited", "mask", "strength=1"), edit | {"strength": 1.0})):
        write_table(
            folder.joinpath(*where, "positions.parquet"),
            rows_of(SCHEMAS["positions"], [identity | row for row in positions]),
            SCHEMAS["positions"],
        )
    manifest = folder / "edited" / "interventions.json"
    write_json(manifest, {"files": {}})
    study.files["edited"].append(str(manifest))
