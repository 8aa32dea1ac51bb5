"""The evidence matrix: verdict and effect of each link of the chain, in each model, under each first token."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.claims.verdicts import NOT_APPLICABLE, NOT_SEEN, SEEN, UNDECIDED
from sinkorigin.figures import style

ROW_HEIGHT, CELL_WIDTH, LABELS_WIDTH = 0.3, 0.82, 2.6  # inches
FEWEST = 3  # models whose mean is drawn: of two, the interval is thirteen standard errors wide
_LEGEND = "; mean by random effects [95 % interval], share I² of the variance between models"
TEXT_SIZE = 7.0
# verdict → its mark
MARKS: dict[str, dict[str, Any]] = {
    SEEN: {"marker": "o", "color": style.PALETTE[0]},
    NOT_SEEN: {"marker": "X", "color": style.PALETTE[3]},
    UNDECIDED: {"marker": "D", "color": style.REFERENCE, "markerfacecolor": "white"},
    NOT_APPLICABLE: {"marker": "_", "color": "0.65"},
}
# of the claim that random weights lack the link, where it was seen
LACKS: dict[str, Any] = MARKS[SEEN] | {"markerfacecolor": "white"}


@style.styled
def draw(*, evidence: pl.DataFrame, evidence_summary: pl.DataFrame) -> Figure:
    """A panel a model, a row a link, a column a prompt set; and where there are several models, a panel of what they have in common."""
    shown = evidence.filter(pl.col("role") != "trained")
    models = style.in_order(shown["model"])
    links = shown.select("link", "words").unique(maintain_order=True).rows()
    prompts = style.in_order(shown["prompts"])
    several = evidence_summary.filter(pl.col("models") > 1)
    summaries = {(row["link"], row["prompts"]): _summary(row) for row in several.to_dicts()}
    summary_width = max((style.text_width(text, TEXT_SIZE) + 0.3 for text in summaries.values()), default=0)
    widths = [len(prompts) * CELL_WIDTH] * len(models) + ([len(prompts) * summary_width] if summaries else [])
    figure = style.laid_out(LABELS_WIDTH + sum(widths), len(links) * ROW_HEIGHT + 1.6)
    grid = figure.add_gridspec(1, len(widths), width_ratios=widths)
    for i, model in enumerate(models):
        ax = figure.add_subplot(grid[0, i])
        rows = shown.filter(pl.col("model") == model)
        _frame(ax, links, prompts, labelled=i == 0)
        for row in rows.to_dicts():
            y, x = [code for code, _ in links].index(row["link"]), prompts.index(row["prompts"])
            mark = LACKS if row["lacks"] and row["verdict"] == SEEN else MARKS[row["verdict"]]
            ax.plot([x - 0.3], [y], linestyle="", markersize=5.5, **mark)
            ax.text(x - 0.18, y, "" if row["value"] is None else _number(row["value"]), va="center", size=TEXT_SIZE)
        style.title(ax, rows["label"][0], beside=LABELS_WIDTH)
    if summaries:
        ax = figure.add_subplot(grid[0, len(models)])
        _frame(ax, links, prompts, labelled=False)
        for (link, name), text in summaries.items():
            y, x = [code for code, _ in links].index(link), prompts.index(name)
            ax.text(x, y, text, va="center", ha="center", size=TEXT_SIZE)
        count = max(several["models"].to_list())
        style.title(ax, f"{count} models", "seen in how many" + _LEGEND * (count >= FEWEST), beside=LABELS_WIDTH)
    marks = {SEEN: MARKS[SEEN], f"{SEEN}: random weights lack the link": LACKS} | MARKS
    style.legend(
        figure, [style.line_handle(words, linestyle="", markersize=5.5, **look) for words, look in marks.items()]
    )
    return figure


def _summary(row: dict[str, Any]) -> str:
    """In how many models a link is seen; and its mean effect where these are enough for an interval that says something."""
    if row["models"] == row["not_applicable"]:
        return "–"
    seen = f"{row['seen']} of {row['models'] - row['not_applicable']}"
    if row["averaged"] < FEWEST:
        return seen
    interval = f"{_number(row['estimate'])} [{_number(row['low'])}, {_number(row['high'])}]"
    return f"{seen}: {interval}, {100 * row['i_squared']:.0f} %"


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _frame(ax: Axes, links: list[tuple[str, str]], prompts: list[str], *, labelled: bool) -> None:
    """Empty cells with the links at the left and the prompt sets at the top."""
    ax.set_xlim(-0.5, len(prompts) - 0.5)
    ax.set_ylim(len(links) - 0.5, -0.5)
    ax.set_xticks(range(len(prompts)), [style.as_words(name) for name in prompts], rotation=30, ha="right")
    ax.set_yticks(range(len(links)), [f"{words}  {code}" for code, words in links] if labelled else [""] * len(links))
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.hlines([i + 0.5 for i in range(len(links) - 1)], -0.5, len(prompts) - 0.5, color="0.92", linewidth=0.7)
