"""The evidence matrix: verdict and effect of each claim, in each model, under each first token."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.claims.first_tokens import NAMES
from sinkorigin.claims.row_texts import claim_order
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED
from sinkorigin.figures import style

ROW_HEIGHT, CELL_WIDTH, LABELS_WIDTH = 0.3, 0.82, 2.6  # inches
FEWEST = 3  # models whose mean is drawn: of two, the interval is thirteen standard errors wide
_LEGEND = "; mean by random effects [95 % interval], share I² of the variance between models"
TEXT_SIZE = 7.0
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
    models = style.in_order(shown["model"])
    rows_of_claims = sorted(shown.select("claim", "words").unique().rows(), key=lambda claim: claim_order(claim[0]))
    codes = [code for code, _ in rows_of_claims]
    firsts = [name for name in NAMES if name in shown["first_token"]]
    several = claims_over_models.filter(pl.col("models") > 1)
    summaries = {(row["claim"], row["first_token"]): _summary(row) for row in several.to_dicts()}
    summary_width = max((style.text_width(text, TEXT_SIZE) + 0.3 for text in summaries.values()), default=0)
    widths = [len(firsts) * CELL_WIDTH] * len(models) + ([len(firsts) * summary_width] if summaries else [])
    figure = style.laid_out(LABELS_WIDTH + sum(widths), len(codes) * ROW_HEIGHT + 1.6)
    grid = figure.add_gridspec(1, len(widths), width_ratios=widths)
    for i, model in enumerate(models):
        ax = figure.add_subplot(grid[0, i])
        rows = shown.filter(pl.col("model") == model)
        _frame(ax, rows_of_claims, firsts, labelled=i == 0)
        for row in rows.to_dicts():
            y, x = codes.index(row["claim"]), firsts.index(row["first_token"])
            ax.plot([x - 0.3], [y], linestyle="", markersize=5.5, **MARKS[row["verdict"]])
            ax.text(x - 0.18, y, "" if row["value"] is None else _number(row["value"]), va="center", size=TEXT_SIZE)
        style.title(ax, rows["label"][0], beside=LABELS_WIDTH)
    if summaries:
        ax = figure.add_subplot(grid[0, len(models)])
        _frame(ax, rows_of_claims, firsts, labelled=False)
        for (code, name), text in summaries.items():
            ax.text(firsts.index(name), codes.index(code), text, va="center", ha="center", size=TEXT_SIZE)
        count = max(several["models"].to_list())
        style.title(ax, f"{count} models", "reproduced in how many" + _LEGEND * (count >= FEWEST), beside=LABELS_WIDTH)
    style.legend(
        figure, [style.line_handle(words, linestyle="", markersize=5.5, **look) for words, look in MARKS.items()]
    )
    return figure


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
    return f"{value:.3g}".replace("-", "−")


def _frame(ax: Axes, claims: list[tuple[str, str]], firsts: list[str], *, labelled: bool) -> None:
    """Empty cells with the claims at the left and the first tokens at the top."""
    ax.set_xlim(-0.5, len(firsts) - 0.5)
    ax.set_ylim(len(claims) - 0.5, -0.5)
    ax.set_xticks(range(len(firsts)), [NAMES[name] for name in firsts], rotation=30, ha="right")
    ax.set_yticks(
        range(len(claims)), [f"{words}  {code}" for code, words in claims] if labelled else [""] * len(claims)
    )
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.hlines([i + 0.5 for i in range(len(claims) - 1)], -0.5, len(firsts) - 0.5, color="0.92", linewidth=0.7)
