"""Each claim over all models: in how many it holds, and its effect averaged with the differences between models in the interval."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from scipy import stats

from sinkorigin import tables
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED

SCHEMA = tables.schema(
    claim=(pa.string(), "code of the claim, see docs/claims.md"),
    words=(pa.string(), "what it claims, in short"),
    first_token=(pa.string(), "what stands at position 0: drawn, bos or fixed"),
    models=(pa.int32(), "number of pretrained models that are judged under this first token"),
    reproduced=(pa.int32(), "number of them with that verdict"),
    contradicted=(pa.int32(), "contradicted"),
    undecided=(pa.int32(), "undecided"),
    not_applicable=(pa.int32(), "not applicable"),
    averaged=(pa.int32(), "number of them whose value has a standard error, which the columns below are of"),
    scale=(pa.string(), "difference, or ratio: of which averages are taken as logarithms"),
    estimate=(
        pa.float64(),
        "mean effect of the models by random effects (DerSimonian and Laird 1986); null for fewer than two",
    ),
    low=(pa.float64(), "lower end of its 95 % interval (Hartung and Knapp 2001)"),
    high=(pa.float64(), "upper end"),
    between=(pa.float64(), "standard deviation τ of the true effects between models, on the scale of the average"),
    q=(pa.float64(), "Cochran's Q, the weighted squares of the effects about their common mean"),
    q_p=(pa.float64(), "probability of so large a Q if all models had one effect"),
    i_squared=(pa.float64(), "share of the effects' variance that is between models and not sampling error"),
)


def over_models(ledger: Iterable[Mapping]) -> Iterator[dict]:
    """Rows of ``SCHEMA``, one a claim and first token, of the pretrained models in rows of the ledger."""
    groups: dict[tuple[str, str], list[Mapping]] = {}
    for row in ledger:
        if row["role"] == "pretrained":
            groups.setdefault((row["claim"], row["first_token"]), []).append(row)
    for (claim, first_token), members in groups.items():
        verdicts = [row["verdict"] for row in members]
        ratio = members[0]["scale"] == "ratio"
        effects, errors = _effects(members, ratio=ratio)
        pooled = random_effects(effects, errors) if len(effects) > 1 else {}
        for name in ("estimate", "low", "high"):
            if ratio and name in pooled:
                pooled[name] = float(np.exp(pooled[name]))
        yield {
            "claim": claim, "words": members[0]["words"], "first_token": first_token, "models": len(members),
            "reproduced": verdicts.count(REPRODUCED), "contradicted": verdicts.count(CONTRADICTED),
            "undecided": verdicts.count(UNDECIDED), "not_applicable": verdicts.count(NOT_APPLICABLE), "averaged": len(effects),
            "scale": members[0]["scale"], **dict.fromkeys(("estimate", "low", "high", "between", "q", "q_p", "i_squared")), **pooled,
        }  # fmt: skip


def _effects(rows: Sequence[Mapping], *, ratio: bool) -> tuple[np.ndarray, np.ndarray]:
    """Effects and their standard errors, from the widths of their intervals, of the models that have both.

    Intervals that hold for many comparisons at once are wider than 95 %, so that their standard errors are too large, never too small.
    """
    ends = [
        (row["value"], row["low"], row["high"]) for row in rows if None not in (row["value"], row["low"], row["high"])
    ]
    values = np.array(ends, dtype=np.float64).reshape(-1, 3)
    if ratio:
        values = np.log(values[(values > 0).all(axis=1)])
    errors = (values[:, 2] - values[:, 1]) / (2 * stats.norm.ppf(0.975))
    known = np.isfinite(values).all(axis=1) & (errors > 0)
    return values[known, 0], errors[known]


def random_effects(effects: np.ndarray, errors: np.ndarray) -> dict[str, float]:
    """Mean of effects that differ between models, and how much they differ.

    Args:
        effects: (M,) one a model, M of 2 or more.
        errors: (M,) their standard errors, above 0.

    Returns:
        estimate, low, high, between, q, q_p and i_squared, see ``SCHEMA``.
    """
    degrees = len(effects) - 1
    weights = errors**-2.0
    common = np.average(effects, weights=weights)
    q = float((weights * (effects - common) ** 2).sum())
    variance = max(0.0, (q - degrees) / (weights.sum() - (weights**2).sum() / weights.sum()))
    weights = 1 / (errors**2 + variance)
    estimate = float(np.average(effects, weights=weights))
    # Hartung and Knapp's; never narrower than without their factor, as Röver et al. 2015 advise for few models
    factor = max(1.0, float((weights * (effects - estimate) ** 2).sum()) / degrees)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(factor / weights.sum())
    return {
        "estimate": estimate,
        "low": float(estimate - half),
        "high": float(estimate + half),
        "between": float(np.sqrt(variance)),
        "q": q,
        "q_p": float(stats.chi2.sf(q, degrees)),
        "i_squared": max(0.0, 1 - degrees / q) if q > 0 else 0.0,
    }
