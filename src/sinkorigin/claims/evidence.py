"""The evidence matrix: each link of the paper's chain, in each model, under each first token; and each link over all models.

A link is one claim of the ledger. Where a claim is made at several positions, the one nearest to the paper's (k = 10) stands for it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import stats

from sinkorigin import tables
from sinkorigin.claims.verdicts import NO_CLAIMS, NOT_APPLICABLE, NOT_MEASURED, NOT_SEEN, SEEN, UNDECIDED, Judged
from sinkorigin.interventions.kind import SHOWN_POSITION


@dataclass(frozen=True)
class Link:
    """One link of the chain.

    Attributes:
        code: its name in docs/paper.md.
        words: what is claimed, as short as a row of a matrix needs.
        claim: the claim that stands for it; where several kinds of edit have it, that of ``kind``.
        scale: how effects are averaged over models: as they are, or as logarithms of ratios.
        control: the claim of random weights that stands for it: that they lack it. None where they have the same claim, or none.
    """

    code: str
    words: str
    claim: str
    scale: str = "difference"
    kind: str | None = None
    control: str | None = None


LINKS = (
    Link("A1", "position 0 is a sink", "sink", "ratio", control="no sink"),
    Link("C1", "variance highest at position 0", "variance discrepancy", "ratio"),
    Link("C2", "variance falls with position", "variance decay"),
    Link("C3", "W_O keeps the order", "W_O keeps order"),
    Link("C4", "sink begins at the norm surge", "sink with surge"),
    Link("C5", "super neuron carries a surge", "super neuron", control="no super neuron"),
    Link("C6", "super neurons write the dominating dim", "super neurons write the dominating dim"),
    Link("D1", "one dim dominates the first token", "dimension disparity", "ratio", control="no dimension disparity"),
    Link("C7", "key has a fixed direction", "fixed key", control="no fixed key"),
    Link("C8", "positive scores go with the sink", "positive ratio goes with sink, by head"),
    Link("C9", "mask makes a sink", "mask makes a sink", kind="mask", control="no sink by mask"),
    Link("C10", "variance beats norm control", "variance against norm_control", kind="variance_amplification"),
    Link("C11a", "sink goes without the variance", "attention lost without it", kind="variance_matching"),
    Link("C11b", "sink goes without super neurons", "attention lost without it", kind="super_neuron_ablation"),
)

_LINK = {
    "link": (pa.string(), "code of the link, see docs/paper.md"),
    "words": (pa.string(), "what it claims"),
    "prompts": (pa.string(), "prompt set"),
    "first_token": (pa.string(), "what stands at position 0: drawn, bos or fixed"),
}
_SCALE = (pa.string(), "difference, or ratio: of which averages are taken as logarithms")

SCHEMA = tables.schema(
    **_LINK,
    model=(pa.string(), "name of the model"),
    label=(pa.string(), "its label"),
    role=(pa.string(), "pretrained, random (the control) or trained (here)"),
    claim=(pa.string(), "claim of the ledger that is judged; in random weights it can be that they lack the link"),
    lacks=(pa.bool_(), "whether it is the claim that the model lacks the link"),
    verdict=(pa.string(), "verdict of the claim; not applicable too where the study does not make it"),
    value=(pa.float64(), "its effect"),
    low=(pa.float64(), "lower end of its 95 % interval"),
    high=(pa.float64(), "upper end of its 95 % interval"),
    quantity=(pa.string(), "what the effect is"),
    scale=_SCALE,
    position=(pa.int32(), "edited position; null for claims about the unedited model"),
    reason=(pa.string(), "numbers behind the verdict, or why there is none"),
)

SUMMARY_SCHEMA = tables.schema(
    **_LINK,
    models=(pa.int32(), "number of pretrained models with this prompt set"),
    seen=(pa.int32(), "number of them with the verdict seen"),
    undecided=(pa.int32(), "undecided"),
    not_seen=(pa.int32(), "not seen"),
    not_applicable=(pa.int32(), "not applicable"),
    averaged=(pa.int32(), "number of them whose effect has a standard error, which the columns below are of"),
    scale=_SCALE,
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


def evidence(
    rows: Iterable[Mapping], *, models: Sequence[Judged], prompts: Mapping[str, str]
) -> tuple[pa.Table, pa.Table]:
    """The matrix and its summary over models.

    Args:
        rows: rows of the ledger.
        models: the models, in the order of the matrix.
        prompts: name of each prompt set → what its first token is.

    Returns:
        A table of ``SCHEMA``, one row a link, model and prompt set that the ledger speaks of; and one of ``SUMMARY_SCHEMA``, one row a
        link and prompt set. Random controls and models trained here stand in the first only.
    """
    found: dict[tuple[str, str], list[Mapping]] = {}
    for row in rows:
        found.setdefault((row["model"], row["prompts"]), []).append(row)
    cells = [
        _cell(link, model, name, first_token, found[model.label, name])
        for link in LINKS
        for name, first_token in prompts.items()
        for model in models
        if (model.label, name) in found
    ]
    return pa.Table.from_pylist(cells, schema=SCHEMA), pa.Table.from_pylist(
        list(_summary(cells)), schema=SUMMARY_SCHEMA
    )


def _cell(link: Link, model: Judged, prompts: str, first_token: str, rows: Iterable[Mapping]) -> dict:
    """One link in one model on one prompt set; "not applicable" where the ledger does not speak of it."""
    lacks = model.is_control and link.control is not None
    claim = link.control if lacks else link.claim
    fitting = [row for row in rows if row["claim"] == claim and link.kind in (None, row["kind"])]
    near = min(fitting, key=lambda row: abs((row["position"] or 0) - SHOWN_POSITION), default=None)
    if near is None:
        none = "the study has no such claim of this model on these prompts"
        reason = next((row["reason"] for row in rows if row["claim"] in (NO_CLAIMS, NOT_MEASURED)), none)
        near = {"verdict": NOT_APPLICABLE, "reason": reason}
    shown = {name: near.get(name) for name in ("verdict", "value", "low", "high", "quantity", "position", "reason")}
    return {
        "link": link.code, "words": link.words, "prompts": prompts, "first_token": first_token, "model": model.name,
        "label": model.label, "role": model.role, "scale": link.scale, "claim": claim, "lacks": lacks,
        **shown,
    }  # fmt: skip


def _summary(cells: Sequence[Mapping]) -> Iterator[dict]:
    """Rows of ``SUMMARY_SCHEMA``, in the order of the matrix."""
    groups: dict[tuple, list[Mapping]] = {}
    for cell in cells:
        if cell["role"] == "pretrained":
            groups.setdefault((cell["link"], cell["prompts"]), []).append(cell)
    for members in groups.values():
        first = members[0]
        verdicts = [cell["verdict"] for cell in members]
        ratio = first["scale"] == "ratio"
        effects, errors = _effects(members, ratio=ratio)
        pooled = random_effects(effects, errors) if len(effects) > 1 else {}
        for name in ("estimate", "low", "high"):
            if ratio and name in pooled:
                pooled[name] = float(np.exp(pooled[name]))
        yield {
            **{name: first[name] for name in (*_LINK, "scale")},
            "models": len(members), "seen": verdicts.count(SEEN), "undecided": verdicts.count(UNDECIDED),
            "not_seen": verdicts.count(NOT_SEEN), "not_applicable": verdicts.count(NOT_APPLICABLE),
            "averaged": len(effects), **pooled,
        }  # fmt: skip


def _effects(cells: Iterable[Mapping], *, ratio: bool) -> tuple[np.ndarray, np.ndarray]:
    """Effects and their standard errors, from the widths of their intervals, of the models that have both.

    Intervals that hold for many comparisons at once are wider than 95 %, so that their standard errors are too large, never too small.
    """
    ends = [
        (cell["value"], cell["low"], cell["high"])
        for cell in cells
        if None not in (cell["value"], cell["low"], cell["high"])
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
        estimate, low, high, between, q, q_p and i_squared, see ``SUMMARY_SCHEMA``.
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
