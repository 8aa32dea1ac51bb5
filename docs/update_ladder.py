"""Write the result in docs/ladder.md, and its figure, from the tables of the study of config.ladder.yaml."""

import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts", "docs")]

from sinkorigin.statistics.ladder import PAPER_PARAMETERS, seeds_needed
from sinkorigin.tables import read_table
from update_readme import between

STUDY = ROOT / "results" / "ladder"
UNITS = {"validation_loss": "validation loss", "train_loss": "train loss", "sink_mass": "sink mass"}
GPU_FLOPS = 360e12  # a second: what a training of 152 M parameters reaches on one H200 (docs/pretraining.md)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown table."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def family(row: dict) -> str:
    """Variant and reading, as the page calls them."""
    name = row["variant"].replace("_", " ")
    return f"{name} ({row['reading'].replace('_', ' ')})" if row["reading"] else name


def signed(value: float) -> str:
    """Number with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def with_interval(row: dict, name: str) -> str:
    """Estimate with its interval, where it has one."""
    if row[name] is None:
        return "–"
    ends = [row[f"{name}_{end}"] for end in ("low", "high")]
    return signed(row[name]) + ("" if None in ends else f" [{', '.join(map(signed, ends))}]")


def values(ladder: pl.DataFrame) -> str:
    """Mean and standard deviation over seeds of each quantity, by family and size."""
    keys = ["variant", "reading", "parameters"]
    found = ladder.group_by(*keys, "quantity", maintain_order=True).agg(
        pl.col("value").mean().alias("mean"), pl.col("value").std().alias("sd"), pl.col("tokens").first(), pl.len()
    )
    rows = []
    for _, own in found.sort("parameters", maintain_order=True).group_by(keys, maintain_order=True):
        cells = {row["quantity"]: f"{row['mean']:.4f} ± {row['sd'] or 0:.4f}" for row in own.to_dicts()}
        first = own.to_dicts()[0]
        facts = [family(first), f"{first['parameters']:,}", f"{first['tokens']:,}", f"{first['len']}"]
        rows.append([*facts, *(cells.get(name, "–") for name in UNITS)])
    return table(["", "parameters of softmax", "tokens", "seeds", *UNITS.values()], rows)


def slopes(slope: pl.DataFrame) -> str:
    """Gap at both ends, and the slope, by family and quantity."""
    head = ["", "quantity", "gap, smallest", "gap, largest", "slope for a factor 4", "the gap", "slope found with 80 %"]
    return table(
        head,
        [
            [
                family(row), UNITS[row["quantity"]],
                *(with_interval(row, name) for name in ("gap_smallest", "gap_largest", "slope")),
                f"**{row['answer']}**", f"±{row['detectable']:.4f}" if row["detectable"] is not None else "–",
            ]
            for row in slope.to_dicts()
        ],
    )  # fmt: skip


def tuning() -> str:
    """Validation loss of each setting of the tuning; in bold the best."""
    found = pl.DataFrame(read_table(STUDY / "statistics" / "learning_rates.parquet"))
    rows = []
    for (run, value), own in found.group_by("run", "option_value", maintain_order=True):
        cells = []
        for row in own.sort("learning_rate").to_dicts():
            loss = row["mean_validation_loss"]
            text = f"{row['learning_rate']:g}: {'diverged' if loss is None else f'{loss:.4f}'}"
            cells.append(f"**{text}**" if row["best"] else text)
        rows.append([f"`{run}`", "–" if value is None else f"{value:g}", "; ".join(cells)])
    return table(["run", "scale starts at", "rate: validation loss"], rows)


def longer(ladder: pl.DataFrame, row: dict) -> str:
    """What longer ladders would need to find the slope that closes the gap of one family at the paper's size."""
    own = ladder.filter(
        pl.col("quantity") == "validation_loss",
        pl.col("variant") == row["variant"],
        pl.col("reading").eq_missing(pl.lit(row["reading"])),
    )
    spread = own.group_by("parameters").agg(pl.col("gap").var())["gap"].mean()
    assert isinstance(spread, float)
    sizes = sorted(own["parameters"].unique())
    tokens = own["tokens"].max() / sizes[-1]
    rows = []
    while sizes[-1] < 4 * PAPER_PARAMETERS:
        x = np.log(sizes) / np.log(4)
        sd = (spread / np.square(x - x.mean()).sum()) ** 0.5
        seeds = seeds_needed(abs(row["closing"]), sd)
        if seeds is not None:
            flops = sum(6 * tokens * size**2 for size in sizes)  # 6 for each parameter and token
            trainings = 3 * (seeds + 8)  # three variants; eight of them to tune
            rows.append(
                [f"{len(sizes)}", f"{sizes[-1] / 1e6:.2f} M", f"{tokens * sizes[-1] / 1e6:,.0f} M", f"{seeds}",
                 f"{trainings * len(sizes)}", f"{trainings * flops:.1e}", f"{trainings * flops / GPU_FLOPS / 3600:.2g}"]
            )  # fmt: skip
        sizes.append(4 * sizes[-1])
    head = ["sizes", "largest", "its tokens", "seeds", "trainings", "operations", "hours of one H200"]
    return table(head, rows)


def result() -> str:
    """The section, in Markdown."""
    ladder, slope = (
        pl.DataFrame(read_table(STUDY / "statistics" / f"{name}.parquet")) for name in ("ladder", "ladder_slope")
    )
    parts = [
        "Mean ± standard deviation over seeds:",
        values(ladder),
        "Gap to softmax, with Student's 95 % interval over seeds; the last column is the size of a slope that so many seeds find with a "
        "power of 80 %:",
        slopes(slope),
        "![Gap by size](figures/ladder.svg)",
        "The tuning, one training each; the setting that is taken in bold:",
        tuning(),
        "## What would decide it",
    ]
    for row in slope.filter(pl.col("quantity") == "validation_loss").to_dicts():
        if row["seeds_for_closing"] is None:
            continue
        parts.append(
            f"For {family(row)} the gap of the largest size, {signed(row['gap_largest'])}, would be gone at {PAPER_PARAMETERS / 1e6:g} M "
            f"parameters with a slope of {signed(row['closing'])} for each factor 4. To find a slope of that size with a power of 80 % (two-sided "
            f"t test over seeds, level 5 %) these sizes need {row['seeds_for_closing']} seeds. Ladders that go on in factors of 4 need, with the "
            "spread of the gaps over seeds that was measured here, the same number of tokens for each parameter, and eight trainings to tune "
            "each variant at each size:"
        )
        parts.append(longer(ladder, row))
    parts.append(
        f"Operations are 6 for each parameter and token; hours are those at {GPU_FLOPS / 1e12:g} TFLOP/s, which small models do not reach. "
        "Beyond 2.4 M tokens a larger corpus is needed, or text is repeated ever more often."
    )
    return "\n\n".join(parts)


def main() -> None:
    page = ROOT / "docs" / "ladder.md"
    page.write_text(between(page.read_text(), "ladder", result(), page="docs/ladder.md"))
    (ROOT / "docs" / "figures").mkdir(exist_ok=True)
    shutil.copy(STUDY / "figures" / "ladder.svg", ROOT / "docs" / "figures")


if __name__ == "__main__":
    main()
