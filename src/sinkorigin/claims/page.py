"""The claims as one page."""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from sinkorigin.claims.comparison import html_table
from sinkorigin.claims.first_tokens import sentences
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED

_MARKS = {REPRODUCED: "✓", CONTRADICTED: "✗", UNDECIDED: "?", NOT_APPLICABLE: "–"}
_CLASSES = {verdict: verdict.replace(" ", "-") for verdict in _MARKS}
_CHECKS = {"passed": REPRODUCED, "failed": CONTRADICTED}  # verdict of a check → the verdict that it is marked as

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Claims: {study}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 82rem; padding: 0 1rem; color: #1a1a1a; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; vertical-align: top; padding: .45rem .6rem; border-bottom: 1px solid #ddd; }}
th {{ background: #f4f4f4; position: sticky; top: 0; }}
h2 {{ margin-top: 2.2rem; font-size: 1.15rem; }}
td small {{ color: #555; display: block; }}
td.number {{ font-variant-numeric: tabular-nums; white-space: nowrap; }}
.verdict {{ white-space: nowrap; font-weight: 600; }}
.reproduced {{ color: #005b96; }}
.contradicted {{ color: #a34700; }}
.undecided, .not-applicable {{ color: #555; }}
.wide {{ overflow-x: auto; }}
.matrix small {{ display: block; font-weight: 400; white-space: nowrap; }}
code {{ font-size: .85em; overflow-wrap: anywhere; }}
details td, details th {{ font-size: .9em; }}
summary {{ cursor: pointer; color: #555; font-size: .9em; }}
.missing {{ border-left: 4px solid #a34700; background: #fff6ef; padding: .3rem 1rem; }}
</style>
</head>
<body>
<h1>Claims of the paper: {study}</h1>
{above}<p>Each claim has one primary test, written down before the run (docs/claims.md). <b>✓ reproduced</b>: the whole 95 % interval
satisfies its predicate, and Holm's correction over the model's primary tests leaves it. <b>✗ contradicted</b>: the whole interval
satisfies the opposite, likewise. <b>? undecided</b>: neither. <b>– not applicable</b>: not defined or not measured there. Other positions,
layers, strengths, thresholds and prompts are settings of the same claim. <b>[no spread]</b>: all sequences begin with the same token, which
sees nothing else, so that a value of position 0 alone is the same in each; the verdict is about this token. The paper's values are for Llama-2-7B, and for a 152 M model where
models are trained.</p>
{sections}
</body>
</html>
"""

_HEAD = (
    "<thead><tr><th>Claim</th><th>Paper</th><th>Here, 95 % interval</th><th>Predicate</th><th>Verdict</th>"
    "<th>Settings</th></tr></thead>"
)


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}".replace("-", "−")


def value_text(row: Mapping) -> str:
    """Value with its interval; of a value that is the same in every sequence, that it has none."""
    if row["value"] is None:
        return "–"
    if row["low"] is not None and np.allclose([row["low"], row["high"]], row["value"], rtol=1e-6, atol=0):
        return f"{number(row['value'])} [no spread]"
    return f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"


def settings_text(row: Mapping) -> str:
    """In how many settings a claim of the ledger holds."""
    if not row["settings"]:
        return "–"
    opposite = f", contradicted in {row['opposite']}" if row["opposite"] else ""
    return f"holds in {row['holds']} of {row['settings']}{opposite}"


def _verdict(verdict: str) -> str:
    marked = _CHECKS.get(verdict, verdict)
    return f"<span class='verdict {_CLASSES[marked]}'>{_MARKS[marked]} {html.escape(verdict)}</span>"


def _small(text: str | None) -> str:
    return f"<small>{html.escape(text)}</small>" if text else ""


def _matrix(ledger: Sequence[Mapping]) -> str:
    """Verdicts and effects: a row a claim, a column a model and what stands first; models trained here are left to their sections."""
    shown = [row for row in ledger if row["role"] != "trained"]
    if not shown:
        return ""
    cells = {(row["claim"], row["label"], row["first_token"]): row for row in shown}
    columns = list(dict.fromkeys((row["label"], row["first_token"]) for row in shown))
    claims = dict.fromkeys((row["claim"], row["words"]) for row in shown)
    head = "".join(
        f"<th scope='col'>{html.escape(label)}<small>first token: {html.escape(first)}</small></th>"
        for label, first in columns
    )
    lines = []
    for code, words in sorted(claims, key=lambda claim: claim_order(claim[0])):
        line = [f"<th scope='row'>{html.escape(words)} <small>{code}</small></th>"]
        for column in columns:
            row = cells.get((code, *column))
            if row is None:
                line.append("<td></td>")
                continue
            value = "" if row["value"] is None else f"<small>{value_text(row)}</small>"
            told = html.escape(f"{row['verdict']}; {settings_text(row)}; {row['reason'] or ''}")
            line.append(f"<td class='{_CLASSES[row['verdict']]}' title='{told}'>{_MARKS[row['verdict']]}{value}</td>")
        lines.append(f"<tr>{''.join(line)}</tr>")
    return (
        "<h2>The claims by model and first token</h2>\n<div class='wide'><table class='matrix'><thead><tr><td></td>"
        f"{head}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table></div>"
    )


def claim_order(code: str) -> tuple[int, str]:
    """Place of a claim's code among others: C2 before C10, C11a before C11b."""
    digits = "".join(filter(str.isdigit, code))
    return int(digits or 0), code


def _claims(ledger: Sequence[Mapping], robustness: Sequence[Mapping]) -> Iterator[str]:
    """A section for each model and condition, with a row a claim, and below it the claim's settings."""
    settings: dict[tuple, list[Mapping]] = {}
    for row in robustness:
        settings.setdefault(_identity(row), []).append(row)
    sections: dict[tuple, list[str]] = {}
    for row in ledger:
        quantity = (
            f"{row['quantity']}; p {_p(row['p_adjusted'])} after Holm"
            if row["p_adjusted"] is not None
            else row["quantity"]
        )
        line = (
            f"<tr><td><b>{row['claim']}</b> {html.escape(row['statement'])}{_small(quantity)}</td>"
            f"<td>{html.escape(row['paper'] or '–')}</td><td class='number'>{value_text(row)}</td>"
            f"<td>{html.escape(row['predicate'])}</td><td>{_verdict(row['verdict'])}{_small(row['reason'])}</td>"
            f"<td>{settings_text(row)}{_details(settings.get(_identity(row), []))}</td></tr>"
        )
        sections.setdefault((row["label"], row["prompts"], row["first_token"]), []).append(line)
    for (label, prompts, first_token), lines in sections.items():
        where = ", ".join(filter(None, [label, prompts, first_token and f"first token {first_token}"]))
        yield f"<h2>{html.escape(where)}</h2>\n<table>{_HEAD}<tbody>\n{chr(10).join(lines)}\n</tbody></table>"


def _identity(row: Mapping) -> tuple:
    return row["claim"], row["model"], row["prompts"]


def _details(rows: Sequence[Mapping]) -> str:
    """All settings of a claim, closed at first."""
    lines = "".join(
        f"<tr><td>{html.escape(row['setting'])}</td><td class='number'>{value_text(row)}</td><td>{html.escape(row['predicate'])}</td>"
        f"<td>{_verdict(row['verdict'])}{_small(row['reason'])}</td></tr>"
        for row in rows
    )
    return (
        f"<details><summary>{len(rows)} settings</summary><table><tbody>{lines}</tbody></table></details>"
        if rows
        else ""
    )


def _checks(checks: Sequence[Mapping]) -> str:
    """Controls and identities: how many passed, and each by itself."""
    if not checks:
        return ""
    counts: dict[str, int] = {}
    for row in checks:
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    lines = "".join(
        f"<tr><td>{html.escape(row['statement'])}</td><td>{html.escape(row['label'])}, {html.escape(row['prompts'])}"
        f"{_small(row['what'])}</td><td class='number'>{value_text(row)}</td><td>{html.escape(row['predicate'])}</td>"
        f"<td>{_verdict(row['verdict'])}{_small(row['reason'])}</td></tr>"
        for row in checks
    )
    return (
        f"<h2>Checks</h2>\n<p>Controls and identities, which must hold if the measurements are what they are said to be: {told}.</p>"
        f"<details><summary>all checks</summary><table><tbody>{lines}</tbody></table></details>"
    )


def _accounts(rows: Sequence[Mapping]) -> str:
    """What other accounts of sinks predict, beside this paper's, in each model: those that are reproduced are counted."""
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        lines.setdefault((row["account"], row["source"]), []).append(
            f"<tr><td>{html.escape(row['statement'])}{_small(row['quantity'])}</td><td>{html.escape(row['label'])}"
            f"{_small(row['prompts'])}</td><td class='number'>{value_text(row)}</td><td>{html.escape(row['predicate'])}</td>"
            f"<td>{_verdict(row['verdict'])}{_small(row['reason'])}</td></tr>"
        )
    parts = [
        f"<h3>{html.escape(account)}<small> {html.escape(source)}</small></h3>\n<table><thead><tr><th>Prediction</th><th>Model</th>"
        f"<th>Here, 95 % interval</th><th>Predicate</th><th>Verdict</th></tr></thead><tbody>{''.join(some)}</tbody></table>"
        for (account, source), some in lines.items()
    ]
    return "\n".join(["<h2>What accounts of attention sinks predict</h2>", *parts]) if parts else ""


def _first_tokens(ledger: Sequence[Mapping]) -> str:
    """A sentence for each model: under which first tokens it has a sink; nothing in a study of one kind of first token."""
    lines = [f"<li><b>{html.escape(label)}</b>: {html.escape(text)}</li>" for label, text in sentences(ledger)]
    return f"<p>Where the sink is:</p><ul>\n{chr(10).join(lines)}\n</ul>\n" if lines else ""


def _missing(missing: Sequence[Mapping], undrawn: Sequence[str]) -> str:
    """What the study lacks, with one sentence for each failure; nothing for a whole study."""
    reasons: dict[tuple[str, str], dict[tuple[str, str], list[str]]] = {}
    for part in missing:
        parts = reasons.setdefault((part["sentence"], part["log"]), {})
        parts.setdefault((part["model"] or "", part["what"] or ""), []).append(part["prompts"] or "")
    lines = []
    for (sentence, log), parts in reasons.items():
        words = []
        for (model, what), prompts in parts.items():
            on = f" on {html.escape(', '.join(prompts))}" if any(prompts) else ""
            where = f"<b>{html.escape(model)}</b>{on}" if model else ""
            words.append(": ".join(filter(None, [where, html.escape(what)])))
        lines.append(
            f"<li>{'; '.join(words)}<small> – {html.escape(sentence)} (log: <code>{html.escape(log)}</code>)</small></li>"
        )
    if undrawn:
        lines.append(f"<li>figures: {html.escape(', '.join(undrawn))}</li>")
    if not lines:
        return ""
    return (
        "<div class='missing'><p><b>This is not the whole study.</b> Jobs failed, and what needs them is missing here and in "
        f"the figures:</p><ul>\n{chr(10).join(lines)}\n</ul></div>\n"
    )


def render_html(
    ledger: Iterable[Mapping],
    robustness: Iterable[Mapping],
    checks: Iterable[Mapping],
    accounts: Iterable[Mapping],
    study: str,
    comparison: pa.Table | None = None,
    *,
    missing: Sequence[Mapping] = (),
    undrawn: Sequence[str] = (),
) -> str:
    """The claims as one self-contained page: the matrix, then a section for each model and first token, then the checks.

    Args:
        ledger, robustness, checks, accounts: rows of ``judging.LEDGER_SCHEMA``, ``judging.ROBUSTNESS_SCHEMA``, ``checks.SCHEMA`` and
            ``accounts.SCHEMA``.
        study: its name.
        comparison: the comparison of the pretraining runs, where there are some; it stands last.
        missing: what the study lacks because jobs failed, as :func:`sinkorigin.claims.judging.judge` takes it, with the ``log``
            of each; it stands first.
        undrawn: figures that it lacks for that reason.
    """
    rows = list(ledger)
    parts = [_matrix(rows), *_claims(rows, list(robustness)), _accounts(list(accounts)), _checks(list(checks))]
    if comparison is not None:
        parts.append(html_table(comparison))
    above = _missing(missing, undrawn) + _first_tokens(rows)
    return _PAGE.format(study=html.escape(study), above=above, sections="\n".join(filter(None, parts)))
