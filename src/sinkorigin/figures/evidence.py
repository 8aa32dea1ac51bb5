"""The evidence matrix: verdict and effect of each claim, in each model, under each first token."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.claims.first_tokens import NAMES
from sinkorigin.claims.row_texts import claim_order
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED
from sinkorigin.figures import style

ROW_HEIGHT, LABELS_WIDTH = 0.27, 2.0  # inches
MOST_CELLS = 6  # side by side
BETWEEN_MODELS = "models"  # the panel of what they have in common
FEWEST = 3  # models whose mean is drawn: of two, the interval is thirteen standard errors wide
_LEGEND = "; mean by random effects [95 % interval], share I² of the variance between models"
# verdict → its mark
MARKS: dict[str, dict[str, Any]] = {
    REPRODUCED: {"marker": "o", "color": style.PALETTE[0]},
    CONTRADICTED: {"marker": "X", "color": style.PALETTE[3]},
    UNDECIDED: {"marker": "D", "color": style.REFERENCE, "markerfacecolor": "white"},
    NOT_APPLICABLE: {"marker": "_", "color": "0.65"},
}


@style.styled
def draw(*, claims: pl.DataFrame, claims_over_models: pl.DataFrame) -> Figure:
    """A panel a model, a row a claim, a column a first token; and where there are several models, a panel of what they have in common."""
    shown = claims.filter(pl.col("role") != "trained")
    firsts = [name for name in NAMES if name in shown["first_token"]]
    panels = _panels(shown, firsts, claims_over_models.filter(pl.col("models") > 1))
    lines = [line for role in dict.fromkeys(panel.role for panel in panels) for line in _lines(panels, role, firsts)]
    heights = [len(_claims(line)) * ROW_HEIGHT + 0.25 for line in lines]
    widest = max((len(line) for line in lines if line[0].role != BETWEEN_MODELS), default=1)
    figure = style.laid_out(sum(heights) + len(lines) * (style.TITLE_HEIGHT + 0.2))
    grid = figure.add_gridspec(len(lines), 1, height_ratios=heights)
    for i, line in enumerate(lines):
        inner = grid[i, 0].subgridspec(1, len(line) if line[0].role == BETWEEN_MODELS else widest)
        rows = _claims(line)
        for j, panel in enumerate(line):
            ax = figure.add_subplot(inner[0, j])
            _frame(ax, rows, firsts, labelled=j == 0)
            for code, first, mark, text in panel.cells:
                x, y = firsts.index(first), [code for code, _ in rows].index(code)
                if mark:
                    ax.plot([x - 0.38], [y], linestyle="", markersize=4, **MARKS[mark])
                ax.text(x - 0.3, y, text, va="center", size=style.TEXT_SIZE, linespacing=1.0)
            style.title(ax, panel.label, panel.note, beside=LABELS_WIDTH)
    style.legend(
        figure,
        [
            *(style.line_handle(words, linestyle="", markersize=4, **look) for words, look in MARKS.items()),
            style.line_handle("beside a mark: the effect and its 95 % interval", linestyle=""),
        ],
    )
    return figure


class _Panel(NamedTuple):
    """A model, or what several have in common: its cells as (claim, first token, verdict, text)."""

    role: str
    label: str
    note: str
    claims: dict[str, str]  # claim → words
    cells: list[tuple[str, str, str, str]]


def _panels(claims: pl.DataFrame, firsts: Sequence[str], several: pl.DataFrame) -> list[_Panel]:
    """A panel a model, random weights last, and before them one of what the models have in common."""
    found = []
    for (_, role), rows in claims.group_by("model", "role", maintain_order=True):
        words = dict(rows.select("claim", "words").rows())
        cells = [(row["claim"], row["first_token"], row["verdict"], _effect(row)) for row in rows.to_dicts()]
        found.append(_Panel(str(role), rows["label"][0], "", words, cells))
    found.sort(key=lambda panel: panel.role == "random")
    if len(several):
        words = dict(
            several.join(claims, on="claim", how="left").select("claim", "words").unique(maintain_order=True).rows()
        )
        enough = max(several["models"].to_list()) >= FEWEST
        cells = [(row["claim"], row["first_token"], "", _summary(row)) for row in several.to_dicts()]
        first_random = next((i for i, panel in enumerate(found) if panel.role == "random"), len(found))
        note = "reproduced in how many" + _LEGEND * enough
        found.insert(
            first_random, _Panel(BETWEEN_MODELS, f"{max(several['models'].to_list())} models", note, words, cells)
        )
    return found


def _lines(panels: Sequence[_Panel], role: str, firsts: Sequence[str]) -> list[list[_Panel]]:
    """The panels of one role, as many side by side as there is room for."""
    alike, most = [panel for panel in panels if panel.role == role], max(MOST_CELLS // len(firsts), 1)
    most = 1 if role == BETWEEN_MODELS else most
    return [alike[i : i + most] for i in range(0, len(alike), most)]


def _claims(panels: Sequence[_Panel]) -> list[tuple[str, str]]:
    """Code and words of the claims of some panels, in their order."""
    words = {code: text for panel in panels for code, text in panel.claims.items()}
    return sorted(words.items(), key=lambda claim: claim_order(claim[0]))


def _effect(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return ""
    ends = "" if row["low"] is None else f"\n[{_number(row['low'])}, {_number(row['high'])}]"
    return _number(row["value"]) + ends


def _summary(row: dict[str, Any]) -> str:
    """In how many models a claim is reproduced; and its mean effect where these are enough for an interval that says something."""
    if row["models"] == row["not_applicable"]:
        return "–"
    found = f"{row['reproduced']} of {row['models'] - row['not_applicable']}"
    if row["averaged"] < FEWEST:
        return found
    interval = f"{_number(row['estimate'])} [{_number(row['low'])}, {_number(row['high'])}]"
    return f"{found}: {interval}, {100 * row['i_squared']:.0f} %"


def _number(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _frame(ax: Axes, claims: list[tuple[str, str]], firsts: list[str], *, labelled: bool) -> None:
    """Empty cells with the claims at the left and the first tokens at the top."""
    ax.set_xlim(-0.5, len(firsts) - 0.5)
    ax.set_ylim(len(claims) - 0.5, -0.5)
    ax.set_xticks(range(len(firsts)), [NAMES[name] for name in firsts])
    ax.set_yticks(
        range(len(claims)),
        [style.wrapped(f"{words} {code}", LABELS_WIDTH, style.TEXT_SIZE) for code, words in claims]
        if labelled
        else [""] * len(claims),
    )
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.hlines([i + 0.5 for i in range(len(claims) - 1)], -0.5, len(firsts) - 0.5, color="0.92", linewidth=0.7)
