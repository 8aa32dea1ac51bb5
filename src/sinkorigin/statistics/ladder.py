"""The ladder: how far each variant is from its baseline at several sizes on the same data, and the slope of that gap with size."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sinkorigin import tables
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.pretraining_comparison import QUANTITIES
from sinkorigin.statistics.shared_columns import RUN, SEED, TOKENS
from sinkorigin.statistics.student import paired_interval

# of those in ``pretraining_comparison``, the ones that mean the same at every size
LADDERED = ("validation_loss", "train_loss", "sink_mass")
PAPER_PARAMETERS = 152e6
POWER, _LEVEL = 0.8, 0.05
_MOST_SEEDS = 10_000

# what the runs of one family share; their size alone differs, and what goes with it
_FAMILY = {
    "data": (pa.string(), "data that the runs are trained on"),
    "end_of_text_first": (pa.bool_(), "whether every training sequence begins with the end-of-text token"),
    "length": (pa.int32(), "tokens in a training sequence"),
    "variant": (pa.string(), "attention variant"),
    "reading": (pa.string(), "which form of the variant the runs have; null where it has one only"),
}
_QUANTITY = {
    "prompts": (pa.string(), "prompt set; null for losses"),
    "quantity": (pa.string(), "; ".join(f"{name}: {QUANTITIES[name][0]}" for name in LADDERED)),
    "unit": (pa.string(), "unit of the values"),
}

SCHEMA = tables.schema(
    **_FAMILY,
    run=RUN["run"],
    baseline=(pa.string(), "the softmax run of this size, which the run is compared with"),
    parameters=(pa.int64(), "parameters of the baseline: one number for all variants of a size"),
    tokens=TOKENS,
    seed=SEED,
    **_QUANTITY,
    uniform=(pa.float64(), "sink mass: what uniform attention would give"),
    value=(pa.float64(), "value of the run"),
    gap=(pa.float64(), "value of the run − value of the baseline of the same seed; null for baselines"),
)


def _over_seeds(name: str, description: str) -> dict[str, tuple[pa.DataType, str]]:
    return {
        name: (pa.float64(), description),
        f"{name}_low": (pa.float64(), "lower end of its 95 % Student interval over seeds; null for one seed"),
        f"{name}_high": (pa.float64(), "upper end"),
    }


SLOPE_SCHEMA = tables.schema(
    **_FAMILY,
    **_QUANTITY,
    sizes=(pa.int32(), "number of sizes"),
    smallest=(pa.int64(), "parameters of the smallest baseline"),
    largest=(pa.int64(), "parameters of the largest"),
    seeds=(pa.int32(), "number of seeds that have a gap at every size; no others count here"),
    **_over_seeds("gap_smallest", "gap at the smallest size, mean over seeds"),
    **_over_seeds("gap_largest", "gap at the largest size, mean over seeds"),
    **_over_seeds(
        "slope",
        "change of the gap when the number of parameters grows by a factor 4: mean over seeds of the least-squares slope of one "
        "seed's gaps on log4(parameters)",
    ),
    slope_sd=(pa.float64(), "standard deviation over seeds of that slope (n − 1)"),
    answer=(
        pa.string(),
        "falls or rises, where the whole interval of the slope is on one side of 0; undecided otherwise, and for one seed",
    ),
    detectable=(
        pa.float64(),
        f"size of a slope that so many seeds find with {POWER:.0%} power (t test, two-sided, level {_LEVEL:g})",
    ),
    closing=(
        pa.float64(),
        f"slope with which the gap at the largest size would be gone at the paper's {PAPER_PARAMETERS / 1e6:g} M parameters; null "
        "for a larger model",
    ),
    seeds_for_closing=(
        pa.int32(),
        f"number of seeds with which these sizes would find a slope of that size with {POWER:.0%} power; null where more than "
        f"{_MOST_SEEDS} would not",
    ),
)

TABLES = {"ladder": SCHEMA, "ladder_slope": SLOPE_SCHEMA}


def compute(inputs: Mapping[str, str], *, runs: Sequence[Mapping[str, Any]]) -> dict[str, pa.Table]:
    """Gaps by size and seed, and their slopes.

    Args:
        inputs: paths of ``by_seed`` (``pretraining_comparison.BY_SEED_SCHEMA``) and ``pretraining``
            (``pretraining.SCHEMA``).
        runs: for each run of a ladder, in the config's order, run, baseline, and the columns that a family shares: data,
            end_of_text_first, length, variant and reading.

    Returns:
        ``ladder`` (``SCHEMA``), a row for each run, seed, quantity and prompt set, and ``ladder_slope`` (``SLOPE_SCHEMA``), one for
        each family beside the baselines', quantity and prompt set.
    """
    by_seed = pl.DataFrame(tables.read_table(inputs["by_seed"])).filter(pl.col("quantity").is_in(LADDERED))
    ends = pl.DataFrame(tables.read_table(inputs["pretraining"]))
    sizes = dict(ends.group_by("run").agg(pl.struct(pl.col("parameters").first(), pl.col("tokens").max())).iter_rows())
    values = {
        (row["run"], row["seed"], row["quantity"], row["prompts"]): (row["value"], row["uniform"])
        for row in by_seed.iter_rows(named=True)
    }
    rows, there = [], set()
    for facts in runs:
        parameters = sizes[facts["baseline"]]["parameters"]
        place = (*(facts[name] for name in _FAMILY), parameters)
        if place in there:  # the first run of a family and size stands for it, as the first softmax run is the baseline
            continue
        there.add(place)
        for (run, seed, quantity, prompts), (value, uniform) in values.items():
            if run != facts["run"]:
                continue
            base, _ = values.get((facts["baseline"], seed, quantity, prompts), (None, None))
            rows.append(
                {
                    **facts,
                    "parameters": parameters,
                    "tokens": sizes[run]["tokens"],
                    "seed": seed,
                    "prompts": prompts,
                    "quantity": quantity,
                    "unit": QUANTITIES[quantity][1],
                    "uniform": uniform,
                    "value": value,
                    "gap": None if None in (value, base) or run == facts["baseline"] else value - base,
                }
            )
    ladder = from_rows(SCHEMA, rows)
    return {"ladder": ladder, "ladder_slope": slope_table(ladder)}


def slope_table(ladder: pa.Table) -> pa.Table:
    """Slopes of all families but the baselines': a table of ``SLOPE_SCHEMA``, of one of ``SCHEMA``."""
    shared = [*_FAMILY, *_QUANTITY]
    rows = []
    compared = pl.DataFrame(ladder).filter(pl.col("run") != pl.col("baseline"))
    for what, own in compared.group_by(shared, maintain_order=True):
        sizes = own["parameters"].unique().sort().to_list()
        gaps: dict[int, dict[int, float]] = {}  # seed → parameters → gap
        for parameters, seed, gap in own.drop_nulls("gap").select("parameters", "seed", "gap").iter_rows():
            gaps.setdefault(seed, {})[parameters] = gap
        whole = [[found[size] for size in sizes] for _, found in sorted(gaps.items()) if len(found) == len(sizes)]
        facts = {"sizes": len(sizes), "smallest": sizes[0], "largest": sizes[-1], "seeds": len(whole)}
        if whole and len(sizes) > 1:
            facts |= slope_row(np.array(whole), np.array(sizes, dtype=np.float64))
        else:
            facts |= {"answer": "undecided"}
        rows.append(dict.fromkeys(SLOPE_SCHEMA.names) | dict(zip(shared, what, strict=True)) | facts)
    return from_rows(SLOPE_SCHEMA, rows)


def slope_row(gaps: np.ndarray, parameters: np.ndarray) -> dict[str, float | int | str | None]:
    """Columns of ``SLOPE_SCHEMA`` from the gaps.

    Args:
        gaps: (seeds, sizes).
        parameters: (sizes,), rising.
    """
    slopes = gaps @ slope_weights(parameters)  # (seeds,)
    row: dict[str, float | int | str | None] = {}
    for name, values in (("gap_smallest", gaps[:, 0]), ("gap_largest", gaps[:, -1]), ("slope", slopes)):
        row[name], row[f"{name}_low"], row[f"{name}_high"] = paired_interval(values.tolist())
    left = np.log(PAPER_PARAMETERS / parameters[-1]) / np.log(4)  # sizes from the largest to the paper's
    closing = float(-gaps[:, -1].mean() / left) if left > 0 else None
    row |= {"answer": "undecided", "closing": closing}
    if len(slopes) > 1:
        low, high, sd = row["slope_low"], row["slope_high"], float(slopes.std(ddof=1))
        assert isinstance(low, float) and isinstance(high, float)  # as there are two seeds
        row |= {
            "answer": "falls" if high < 0 else "rises" if low > 0 else "undecided",
            "slope_sd": sd,
            "detectable": sd * detectable(len(slopes)),
            "seeds_for_closing": None if closing is None else seeds_needed(abs(closing), sd),
        }
    return row


def slope_weights(parameters: np.ndarray) -> np.ndarray:
    """Weights (sizes,) with which values at these sizes add to their least-squares slope on log4(parameters)."""
    x = np.log(parameters) / np.log(4)
    deviations = x - x.mean()
    return deviations / np.square(deviations).sum()


@cache
def _measured(seeds: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Standard deviations that so many seeds measure of a true one of 1, their probabilities, and the t test's critical value."""
    from scipy.stats import chi2, t

    nodes, weights = np.polynomial.legendre.leggauss(200)  # of the quantiles, on [-1, 1]
    deviations = np.sqrt(chi2.ppf((nodes + 1) / 2, seeds - 1) / (seeds - 1))
    return deviations, weights / 2, float(t.ppf(1 - _LEVEL / 2, seeds - 1))


def power(effect: float, seeds: int) -> float:
    """Power of the two-sided t test of a mean over seeds that is ``effect`` standard deviations away from 0.

    The mean of Φ(√n effect − t s) + Φ(−√n effect − t s) over what the seeds measure as standard deviation, s, whose square follows
    χ²/(n − 1); t is the test's critical value. SciPy's noncentral t gives no number for large effects.
    """
    from scipy.special import ndtr  # Φ

    deviations, weights, critical = _measured(seeds)
    shift = effect * np.sqrt(seeds)
    return float(weights @ (ndtr(shift - critical * deviations) + ndtr(-shift - critical * deviations)))


@cache
def detectable(seeds: int) -> float:
    """Standard deviations that a mean over seeds must be away from 0 to be found with a power of ``POWER``."""
    from scipy.optimize import brentq

    return float(brentq(lambda effect: power(effect, seeds) - POWER, 1e-6, 1e3))


def seeds_needed(effect: float, sd: float) -> int | None:
    """Smallest number of seeds that find a mean of size ``effect`` with a power of ``POWER``; None where ten thousand do not."""
    few, many = 1, 2  # `few` are not enough
    while many <= _MOST_SEEDS and detectable(many) * sd > effect:
        few, many = many, 2 * many
    if many > _MOST_SEEDS:
        return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if detectable(middle) * sd <= effect else (middle, many)
    return many
