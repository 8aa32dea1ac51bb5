"""Write the result in docs/long.md from the tables of the study of config.long.yaml."""

import sys
from pathlib import Path

import polars as pl
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts", "docs")]

from sinkorigin.statistics.uniform import SINK_FACTOR
from sinkorigin.tables import read_table
from update_ladder import table
from update_readme import between

STUDY = ROOT / "results" / "long"
CONFIG = ROOT / "config.long.yaml"
KINDS = {"natural_text": "text", "random_tokens": "random tokens"}
HEAD = [
    "prompts", "tokens", "sequences", "sink mass, mean over layers", "highest (layer)", "× uniform", "sequences with a sink",
    "queries whose largest weight lies on position 0", "norm of the first token × the others', highest layer", "other sinks",
]  # fmt: skip


def frame(model: str, prompts: str, table: str) -> pl.DataFrame:
    """A table of one model on one prompt set."""
    return pl.DataFrame(read_table(STUDY / "statistics" / model / prompts / f"{table}.parquet"))


def with_interval(row: dict, name: str, digits: int = 3) -> str:
    """Estimate with its interval, where it has one."""
    value, *ends = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "–"
    text = f"{value:.{digits}g}"
    return text if None in ends else f"{text} [{', '.join(f'{end:.{digits}g}' for end in ends)}]"


def result() -> str:
    """The section, in Markdown."""
    config = yaml.safe_load(CONFIG.read_text())
    [model] = [one["name"] for one in config["models"]]
    rows = []
    for prompts in sorted(config["prompts"], key=lambda one: (one["kind"], one["length"])):
        name = prompts["name"]
        facts = [KINDS[prompts["kind"]], f"{prompts['length']:,}", f"{prompts['sequences']}"]
        if not (STUDY / "statistics" / model / name / "secondary_sinks_by_layer.parquet").exists():
            rows.append([*facts, *["not run"] * (len(HEAD) - len(facts))])
            continue
        sinks = frame(model, name, "first_position_sinks").filter(position=0, factor=SINK_FACTOR).row(0, named=True)
        mass = frame(model, name, "sink_mass")
        peak = mass.sort("mass", descending=True, nulls_last=True).row(0, named=True)
        largest = frame(model, name, "row_sinks").filter(pl.col("layer").is_null(), pl.col("head").is_null())
        others = frame(model, name, "secondary_sinks_by_layer")
        surge = frame(model, name, "norm_ratio").filter(site="residual").sort("ratio", descending=True)
        rows.append(
            [
                *facts,
                f"{mass['mass'].mean():.3f}", f"{peak['mass']:.3f} ({peak['layer']})", with_interval(sinks, "ratio"),
                f"{sinks['sinks']} of {sinks['sequences']}", with_interval(largest.row(0, named=True), "largest"),
                f"{surge['ratio'][0]:.3g}", f"{100 * others['sinks'].sum() / others['candidates'].sum():.2g} %",
            ]
        )  # fmt: skip
    return table(HEAD, rows)


def main() -> None:
    page = ROOT / "docs" / "long.md"
    page.write_text(between(page.read_text(), "long", result(), page="docs/long.md"))


if __name__ == "__main__":
    main()
