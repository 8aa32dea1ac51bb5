"""The comparison of pretraining runs as the paper's table: a row a run, its cells mean ± standard deviation over seeds."""

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from sinkorigin.claims.verdicts import PAPER_EPSILON

# column → quantity of the comparison table
COLUMNS = {
    "train loss": "train_loss",
    "validation loss": "validation_loss",
    "effective rank": "effective_rank",
    "dimension disparity, mean over layers": "dimension_disparity",
    "sink mass, largest": "sink_mass",
    "rows normalised": "sink_mass_normalised",
    "sink rate": "sink_rate",
    "dimension disparity, largest layer": "dimension_disparity_largest",
    "variance at 0 over the others'": "variance_ratio",
    "tokens to baseline's loss": "tokens_to_baseline_loss",
}
# what the authors report of their 152 M models after 20 B tokens; no result of this project
PAPER_ROWS = {
    "paper: softmax": ("2.7483 ± 0.0118", "2.7812 ± 0.0109", "343.71 ± 15.63", "82.67 ± 8.09", "from layer 5 on"),
    "paper: head-wise RMSNorm": ("2.7073 ± 0.0095", "2.7421 ± 0.0066", "445.96 ± 5.37", "33.74 ± 2.73", "none"),
}

NOTE = (
    "Mean ± standard deviation over seeds, and below it the paired difference to the baseline with its 95 % Student interval. "
    "Losses in nats per token; sink mass is the attention to position 0 in the layer where it is largest (uniform attention: "
    "{uniform}), as it is and with rows that sum to one; sink rate at ε = {epsilon:g}. The variance over sequences is that of what enters "
    "W_O in layer 0; it is 0 at position 0 where all sequences begin with one token. A baseline's tokens to its own last loss "
    "are fewer than all where its loss was lower before the end; “–” is not reached, or not by every seed."
)


def prompt_sets(table: pa.Table) -> list[str]:
    """Prompt sets of a comparison table, in order."""
    return list(dict.fromkeys(name for name in table.column("prompts").to_pylist() if name is not None))


def _number(value: float, spread: float | None = None) -> str:
    """Four decimals for numbers of a loss' size, three significant digits for larger ones."""
    digits = 4 if abs(value) < 10 else 2 if abs(value) < 1000 else 0
    text = f"{value:,.{digits}f}"
    return text if spread is None else f"{text} ± {spread:,.{digits}f}"


def _cell(row: Mapping | None) -> tuple[str, str]:
    """Mean ± standard deviation, and the difference with its interval; a dash and nothing where there is none."""
    if row is None or row["mean"] is None:
        return "–", ""
    if row["seeds"] < row["of_seeds"]:
        return f"{_number(row['mean'])} ({row['seeds']} of {row['of_seeds']} seeds)", ""
    below = ""
    if row["difference"] is not None:
        below = f"{row['difference']:+,.4g}"
        if row["difference_low"] is not None:
            below += f" [{row['difference_low']:,.4g}, {row['difference_high']:,.4g}]"
    return _number(row["mean"], row["sd"]), below.replace("-", "−")


def rows_of(table: pa.Table, prompts: str) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Run, what it is, and its cells in the order of ``COLUMNS``."""
    rows = [row for row in table.to_pylist() if row["prompts"] in (None, prompts)]
    rates = sorted({row["epsilon"] for row in rows if row["epsilon"] is not None}, key=lambda e: abs(e - PAPER_EPSILON))
    for run in dict.fromkeys(row["run"] for row in rows):
        shown = {row["quantity"]: row for row in rows if row["run"] == run and row["epsilon"] in (None, *rates[:1])}
        first = next(iter(shown.values()))
        facts = f"{first['parameters']:,} parameters, {first['tokens']:,} tokens, {first['of_seeds']} seeds"
        for begins in dict.fromkeys(row["first_token"] for row in shown.values() if row["first_token"] is not None):
            facts += f"; first token {begins}"
        if first["baseline"] == run:
            facts = f"baseline; {facts}"
        elif first["baseline"] is not None:
            facts = f"against {first['baseline']}; {facts}"
        yield run, facts, [_cell(shown.get(quantity)) for quantity in COLUMNS.values()]


def note(table: pa.Table, prompts: str) -> str:
    """What the table of a prompt set shows."""
    rows = [row for row in table.to_pylist() if row["prompts"] == prompts]
    uniform = next(row["uniform"] for row in rows if row["quantity"] == "sink_mass")
    rates = [row["epsilon"] for row in rows if row["epsilon"] is not None]
    epsilon = min(rates, key=lambda e: abs(e - PAPER_EPSILON))
    return NOTE.format(uniform=f"{uniform:.3f}", epsilon=epsilon)


def paper_cells(cells: Sequence[str]) -> list[str]:
    """What the paper reports of a run, in the order of ``COLUMNS``."""
    return [*cells, *["–"] * (len(COLUMNS) - len(cells))]


def markdown_table(table: pa.Table, prompts: str) -> str:
    """Comparison on one prompt set as a table of the README."""
    lines = ["| run | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, reported in PAPER_ROWS.items():
        lines.append(f"| *{name}* | " + " | ".join(paper_cells(reported)) + " |")
    for run, facts, cells in rows_of(table, prompts):
        inside = " | ".join(f"{value}<br>{below}" if below else value for value, below in cells)
        lines.append(f"| {run}<br>({facts}) | {inside} |")
    return "\n".join([*lines, "", note(table, prompts)])
