"""Verdicts as machine-readable records.

The vocabulary is schema.org's: ``Claim`` for what the paper says, ``ClaimReview`` for each verdict on it, ``Observation`` for the value
behind the verdict. It has a type for exactly this (somebody's claim, judged by somebody else, with a rating), needs no vocabulary of this
project's own, and is that of the RO-Crate around it.
"""

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED
from sinkorigin.publish.described_study import DescribedStudy

# verdict → rating between −1 and 1; "not applicable" has none
_RATINGS = {REPRODUCED: 1, UNDECIDED: 0, CONTRADICTED: -1}


def claim_records(study: DescribedStudy) -> dict[str, Any]:
    """All claims and verdicts of a study as a JSON-LD document."""
    labels: dict[str, str] = {}
    claims: dict[str, dict[str, Any]] = {}
    for row in study.ledger:
        labels.setdefault(row["model"], row["label"])
        claims.setdefault(row["claim"], _claim(row, study.paper["url"]))
    records = [_paper(study.paper), *(_model(name, label) for name, label in labels.items()), *claims.values()]
    for row in study.ledger:
        records += _review(row, study)
    return {"@context": "https://schema.org/", "@graph": records}


def _paper(paper: Mapping[str, Any]) -> dict[str, Any]:
    authors = [{"@type": "Person", "familyName": author["family-names"]} for author in paper["authors"]]
    return {"@id": paper["url"], "@type": "ScholarlyArticle", "name": paper["title"], "author": authors}


def _model(name: str, label: str) -> dict[str, Any]:
    return {"@id": f"#model/{name}", "@type": "SoftwareApplication", "name": label, "identifier": name}


def _claim(row: Mapping[str, Any], paper: str) -> dict[str, Any]:
    claim = {
        "@id": f"#{row['claim']}",
        "@type": "Claim",
        "identifier": row["claim"],
        "name": row["words"],
        "text": row["statement"],
    }
    # a claim of this project does not appear in the paper
    reported = (
        {} if row["paper"] is None else {"appearance": {"@id": paper}, "description": f"reported: {row['paper']}"}
    )
    return claim | reported


def _review(row: Mapping[str, Any], study: DescribedStudy) -> list[dict[str, Any]]:
    """Verdict of a row of the ledger, and the observation that it rests on if there is one."""
    key = "/".join(filter(None, [row["claim"], row["model"], row["prompts"], row["first_token"]]))
    first = row["first_token"] and f"first token {row['first_token']}"
    verdict = row["verdict"]
    rating: dict[str, Any] = {"@type": "Rating", "alternateName": verdict}
    if verdict != NOT_APPLICABLE:
        rating |= {"ratingValue": _RATINGS[verdict], "bestRating": 1, "worstRating": -1}
    review = {
        "@id": f"#review/{key}",
        "@type": "ClaimReview",
        "claimReviewed": row["statement"],
        "itemReviewed": {"@id": f"#{row['claim']}"},
        "about": {"@id": f"#model/{row['model']}"},
        "author": {"@type": "Organization", "name": study.software},
        "reviewAspect": "; ".join(filter(None, [row["label"], row["prompts"], first])),
        "reviewBody": row["reason"],
        "reviewRating": rating,
        "isBasedOn": [{"@id": quote(table)} for table in row["tables"]],
    }
    if verdict == NOT_APPLICABLE:
        return [review]
    observation = f"#observation/{key}"
    return [review | {"isBasedOn": [{"@id": observation}, *review["isBasedOn"]]}, _observation(observation, row)]


def _observation(identifier: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Value behind a verdict: an estimate, the ends of its 95 % interval, and what it was held against."""
    beside = {
        "prompts": row["prompts"],
        "first token": row["first_token"],
        "predicate": row["predicate"],
        "threshold": row["threshold"],
        "p-value": row["p"],
        "p-value after Holm's correction": row["p_adjusted"],
        "settings in which it holds": row["holds"],
        "settings in which the opposite holds": row["opposite"],
        "settings": row["settings"],
    }
    return {
        "@id": identifier,
        "@type": "Observation",
        "variableMeasured": row["quantity"],
        "observationAbout": {"@id": f"#model/{row['model']}"},
        "value": {
            "@type": "QuantitativeValue",
            "description": "estimate, with the ends of its 95 % interval",
            "value": _finite(row["value"]),
            "minValue": _finite(row["low"]),
            "maxValue": _finite(row["high"]),
            "additionalProperty": [
                {"@type": "PropertyValue", "name": name, "value": _finite(value)}
                for name, value in beside.items()
                if value is not None
            ],
        },
    }


def _finite(value: Any) -> Any:
    """A value that JSON has a way to write: null for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
