"""The claims as one page."""

import html
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from sinkorigin.claims.comparison import html_table
from sinkorigin.claims.first_tokens import FIRST_TOKENS
from sinkorigin.claims.verdicts import NOT_APPLICABLE, NOT_SEEN, SEEN, UNDECIDED

_MARKS = {SEEN: "✓", NOT_SEEN: "✗", UNDECIDED: "?", NOT_APPLICABLE: "–"}
_CLASSES = {SEEN: "seen", NOT_SEEN: "not-seen", UNDECIDED: "undecided", NOT_APPLICABLE: "not-applicable"}

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
.seen {{ color: #005b96; }}
.not-seen {{ color: #a34700; }}
.undecided, .not-applicable {{ color: #555; }}
.wide {{ overflow-x: auto; }}
.matrix small {{ display: block; font-weight: 400; white-space: nowrap; }}
code {{ font-size: .85em; overflow-wrap: anywhere; }}
.missing {{ border-left: 4px solid #a34700; background: #fff6ef; padding: .3rem 1rem; }}
</style>
</head>
<body>
<h1>Claims of the paper: {study}</h1>
{above}<p>Each claim is judged from the tables of this study. <b>✓ seen</b>: the whole 95 % interval satisfies the predicate.
<b>? undecided</b>: the estimate does, the interval does not. <b>✗ not seen at this scale</b>: the estimate does not.
<b>– not applicable</b>: not defined or not measured here. Intervals are bootstrapped over sequences, or Student's over
seeds for trained models. The paper's values are for Llama-2-7B, and for a 152 M model where models are trained.</p>
{sections}
</body>
</html>
"""

_HEAD = (
    "<thead><tr><th>Claim</th><th>Paper</th><th>Here, 95 % interval</th><th>Predicate</th><th>Verdict</th>"
    "<th>Table</th></tr></thead>"
)


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}".replace("-", "−")


def value_text(row: Mapping) -> str:
    """Value with its interval."""
    if row["value"] is None:
        return "–"
    return f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"


def _matrix(evidence: pa.Table) -> str:
    """The evidence matrix: a row a link of the chain, a column a model and prompt set."""
    cells = {(row["link"], row["label"], row["prompts"]): row for row in evidence.to_pylist()}
    columns = list(dict.fromkeys((label, prompts) for _, label, prompts in cells))
    head = "".join(
        f"<th scope='col'>{html.escape(label)}<small>{html.escape(prompts.replace('_', ' '))}</small></th>"
        for label, prompts in columns
    )
    lines = []
    for link, words in dict.fromkeys((row["link"], row["words"]) for row in cells.values()):
        line = [f"<th scope='row'>{html.escape(words)} <small>{link}</small></th>"]
        for column in columns:
            row = cells.get((link, *column))
            if row is None:
                line.append("<td></td>")
                continue
            words_of = f"{row['claim']}: {row['verdict']}; {row['reason'] or ''}"
            shown = f"lacks it {_MARKS[row['verdict']]}" if row["lacks"] else _MARKS[row["verdict"]]
            value = "" if row["value"] is None else f"<small>{value_text(row)}</small>"
            line.append(f"<td class='{_CLASSES[row['verdict']]}' title='{html.escape(words_of)}'>{shown}{value}</td>")
        lines.append(f"<tr>{''.join(line)}</tr>")
    return (
        "<h2>The evidence: links of the chain by model and first token</h2>\n<div class='wide'><table class='matrix'><thead><tr><td></td>"
        f"{head}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table></div>"
    )


def _first_tokens(rows: Sequence[Mapping]) -> str:
    """A sentence for each model: under which first tokens it has a sink; nothing in a study of one kind of first token."""
    lines = [
        f"<li><b>{html.escape(row['model'])}</b>: {html.escape(row['reason'])}</li>"
        for row in rows
        if row["claim"] == FIRST_TOKENS
    ]
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
    table: pa.Table,
    study: str,
    comparison: pa.Table | None = None,
    *,
    missing: Sequence[Mapping] = (),
    undrawn: Sequence[str] = (),
    matrix: pa.Table | None = None,
) -> str:
    """The claims as one self-contained page, a section for each model and prompt set.

    Args:
        table: of the claims.
        study: its name.
        comparison: the comparison of the pretraining runs, where there are some; it stands last.
        matrix: the evidence matrix; it stands before the claims.
        missing: what the study lacks because jobs failed, as :func:`sinkorigin.claims.ledger.judge` takes it, with the ``log``
            of each; it stands first.
        undrawn: figures that it lacks for that reason.
    """
    sections: dict[tuple[str, str], list[str]] = {}
    for row in table.to_pylist():
        text = {key: html.escape(str(value)) if value is not None else "" for key, value in row.items()}
        reason = f"<small>{text['reason']}</small>" if text["reason"] else ""
        line = (
            f"<tr><td>{text['statement']}<small>{text['quantity']}</small></td><td>{text['paper'] or '–'}</td>"
            f"<td class='number'>{html.escape(value_text(row))}</td><td>{text['predicate']}</td>"
            f"<td><span class='verdict {_CLASSES[row['verdict']]}'>{_MARKS[row['verdict']]} {text['verdict']}</span>"
            f"{reason}</td><td><code>{text['table']}</code></td></tr>"
        )
        sections.setdefault((row["model"], row["prompts"] or ""), []).append(line)
    parts = [
        f"<h2>{html.escape(model)}{', ' + html.escape(prompts) if prompts else ''}</h2>\n"
        f"<table>{_HEAD}<tbody>\n{chr(10).join(lines)}\n</tbody></table>"
        for (model, prompts), lines in sections.items()
    ]
    if matrix is not None and matrix.num_rows:
        parts.insert(0, _matrix(matrix))
    if comparison is not None:
        parts.append(html_table(comparison))
    above = _missing(missing, undrawn) + _first_tokens(table.to_pylist())
    return _PAGE.format(study=html.escape(study), above=above, sections="\n".join(parts))
