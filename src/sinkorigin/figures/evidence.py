"""The evidence matrix: verdict and effect of each link of the chain, in each model, under each first token."""

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sinkorigin.figures import style

ROW_HEIGHT, CELL_WIDTH, SUMMARY_WIDTH, LABELS_WIDTH = 0.3, 0.82, 1.9, 2.6  # inches
TEXT_SIZE = 7.0
# verdict → its mark
MARKS: dict[str, dict[str, Any]] = {
    "seen": {"marker": "o", "color": style.PALETTE[0]},
    "not seen at this scale": {"marker": "X", "color": style.PALETTE[3]},
    "undecided": {"marker": "D", "color": style.REFERENCE, "markerfacecolor": "white"},
    "not applicable": {"marker": "_", "color": "0.65"},
}
LACKS: dict[str, Any] = MARKS["seen"] | {
    "markerfacecolor": "white"
}  # the claim that random weights lack the link, seen


@style.styled
def draw(*, evidence: pl.DataFrame, evidence_summary: pl.DataFrame) -> Figure:
    """A panel a model, a row a link, a column a prompt set; and where there are several models, a panel of what they have in common."""
    shown = evidence.filter(pl.col("role") != "trained")
    models = style.in_order(shown["model"])
    links = shown.select("link", "words").unique(maintain_order=True).rows()
    prompts = style.in_order(shown["prompts"])
    averaged = evidence_summary.drop_nulls("estimate")
    widths = [len(prompts) * CELL_WIDTH] * len(models) + ([len(prompts) * SUMMARY_WIDTH] if len(averaged) else [])
    figure = style.laid_out(LABELS_WIDTH + sum(widths), len(links) * ROW_HEIGHT + 1.6)
    grid = figure.add_gridspec(1, len(widths), width_ratios=widths)
    for i, model in enumerate(models):
        ax = figure.add_subplot(grid[0, i])
        rows = shown.filter(pl.col("model") == model)
        _frame(ax, links, prompts, labelled=i == 0)
        for row in rows.to_dicts():
            y, x = [code for code, _ in links].index(row["link"]), prompts.index(row["prompts"])
            mark = LACKS if row["lacks"] and row["verdict"] == "seen" else MARKS[row["verdict"]]
            ax.plot([x - 0.3], [y], linestyle="", markersize=5.5, **mark)
            ax.text(x - 0.18, y, "" if row["value"] is None else _number(row["value"]), va="center", size=TEXT_SIZE)
        style.title(ax, rows["label"][0], beside=LABELS_WIDTH)
    if len(averaged):
        ax = figure.add_subplot(grid[0, len(models)])
        _frame(ax, links, prompts, labelled=False)
        for row in averaged.to_dicts():
            y, x = [code for code, _ in links].index(row["link"]), prompts.index(row["prompts"])
            interval = f"{_number(row['estimate'])} [{_number(row['low'])}, {_number(row['high'])}]"
            ax.text(x, y, f"{interval}, I² {100 * row['i_squared']:.0f} %", va="center", ha="center", size=TEXT_SIZE)
        count = max(evidence_summary["models"].to_list())
        style.title(
            ax, f"Mean of {count} models", "random effects, 95 % interval; I²: share of the variance between models"
        )
    marks = {"seen": MARKS["seen"], "seen: random weights lack the link": LACKS} | MARKS
    style.legend(
        figure, [style.line_handle(words, linestyle="", markersize=5.5, **look) for words, look in marks.items()]
    )
    return figure


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
