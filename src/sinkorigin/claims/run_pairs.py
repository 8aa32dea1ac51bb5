"""What the claims about trainings read: one run beside its baseline, paired by seed, on one prompt set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.tests import Test
from sinkorigin.statistics.student import paired_interval, seeds_needed, two_sided_p
from sinkorigin.statistics.uniform import SINK_FACTOR

TABLE = "pretraining_by_seed"
Values = Sequence[float] | np.ndarray  # one a seed
SAME_ROWS = 1e-3  # raw and row-normalised sink mass that differ by less, relatively, count as one quantity


@dataclass(frozen=True)
class TrainingClaim(Claim):
    """A claim about models that are trained here, each run against its baseline.

    Attributes:
        variant: the attention variant that it is about.
    """

    variant: str = ""
    decided_by: Literal["sequences", "seeds", "models"] = "seeds"


@dataclass(frozen=True)
class Pairs:
    """A quantity of the seeds that a run and its baseline share, and that have a value in both.

    Attributes:
        seeds: the seeds.
        run, baseline: the values, in their order.
        uniform: what uniform attention would give, for a sink mass.
    """

    seeds: list[int]
    run: np.ndarray
    baseline: np.ndarray
    uniform: float | None

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def text(self) -> str:
        """Every pair of values."""
        return "; ".join(f"{a:.4g} against {b:.4g}" for a, b in zip(self.run, self.baseline, strict=True))


@dataclass(frozen=True)
class RunPair:
    """One run and its baseline.

    Attributes:
        run, baseline: their names.
        prompts: name of the prompt set; None for what is measured on none, such as losses.
        first_token: what its sequences begin with; None likewise.
        rows: rows of ``pretraining_comparison.BY_SEED_SCHEMA``, of both runs, on this prompt set.
        sink: whether the baseline has a sink at position 0, in words, with numbers.
        drawn: whether the sequences of any prompt set that the run is measured on begin with drawn tokens.
    """

    run: str
    baseline: str
    prompts: str | None
    first_token: str | None
    rows: pl.DataFrame
    sink: str = ""
    drawn: bool = True

    def path(self, name: str) -> str:
        """Place of a table below the study's folder."""
        return f"statistics/{name}.parquet"

    def by_seed(self, run: str, quantity: str) -> dict[int, float | None]:
        """Seed → value of a quantity, None where it was not reached."""
        return dict(self.rows.filter(run=run, quantity=quantity).select("seed", "value").rows())

    def pairs(self, quantity: str, of_baseline: str | None = None) -> Pairs:
        """A quantity of run and baseline, or of the run beside another one of the baseline."""
        run, base = self.by_seed(self.run, quantity), self.by_seed(self.baseline, of_baseline or quantity)
        seeds = sorted(seed for seed in run.keys() & base.keys() if run[seed] is not None and base[seed] is not None)
        known = self.rows.filter(run=self.run, quantity=quantity)["uniform"].drop_nulls()
        first, second = (np.array([part[seed] for seed in seeds], dtype=np.float64) for part in (run, base))
        return Pairs(seeds, first, second, known[0] if len(known) else None)

    def baseline_values(self, quantity: str) -> np.ndarray:
        """A quantity of the baseline, of all its seeds that have a value."""
        return np.array([value for value in self.by_seed(self.baseline, quantity).values() if value is not None])


def over_seeds(what: str, values: Values, test: Test, reason: str, *, log: bool = False) -> Setting:
    """Setting of a mean over seeds with its Student interval and p-value; without seeds, not applicable.

    Args:
        values: one a seed, all positive with ``log``.
        test: what they are held against.
        log: whether the mean is that of the logarithms, as of ratios.
    """
    if not len(values):
        return not_applicable(what, "run and baseline share no seed that has a value", TABLE)
    scaled = np.log(values) if log else np.asarray(values, dtype=np.float64)
    mean, low, high = paired_interval(scaled)
    edges = [-test.threshold, test.threshold] if test.side == "within" else [test.threshold]
    edge = min((np.log(place) if log else place for place in edges), key=lambda place: abs(place - mean))
    p = two_sided_p(scaled, edge)
    if low is None or high is None:
        reason = f"{reason}; one seed has no interval: train more"
    elif low <= edge <= high:
        needed = seeds_needed(scaled, edge)
        reason = f"{reason}; {f'some {needed}' if needed else 'more than 100'} seeds like these would decide"
    value, low, high = (None if end is None else float(np.exp(end)) if log else end for end in (mean, low, high))
    return Setting(what, value, low, high, reason, (TABLE,), p, test)


def interval_text(values: Values) -> str:
    """Mean over seeds with its interval: "2.1 [1.8, 2.4]"."""
    mean, low, high = paired_interval(values)
    return f"{mean:.3g}" + ("" if low is None else f" [{low:.3g}, {high:.3g}]")


def exceeds(values: Values, level: float) -> bool:
    """Whether the whole interval over seeds lies above a level."""
    low = paired_interval(values)[1]
    return low is not None and low > level


def sink_text(pair: RunPair) -> str:
    """Whether the baseline has a sink at position 0 on the pair's prompts, with numbers."""
    masses, uniform = pair.baseline_values("sink_mass"), pair.pairs("sink_mass").uniform
    if not len(masses) or uniform is None:
        return f"whether {pair.baseline} has a sink was not measured"
    has = exceeds(masses / uniform, SINK_FACTOR)
    return (
        f"{pair.baseline} has {'a' if has else 'no'} sink, {interval_text(masses / uniform)} × uniform attention on {pair.prompts} "
        f"(first token {pair.first_token})"
        + ("" if has else ", so a difference of losses cannot come from the removal of one")
    )


def difference(what: str, quantity: str, pair: RunPair, test: Test) -> Setting:
    """Setting of a loss − the baseline's of the same seed."""
    pairs = pair.pairs(quantity)
    return over_seeds(what, pairs.run - pairs.baseline, test, f"{pairs.text}; {pair.sink}")


def sink_removed(pair: RunPair, test: Test) -> Iterator[Setting]:
    """Attention on position 0 against what a sink is, where the baseline has one; also with rows that sum to one, and other factors.

    Args:
        test: below the factor, of the largest sink mass of a layer over what uniform attention gives.
    """
    raw, normalised = pair.pairs("sink_mass"), pair.pairs("sink_mass_normalised")
    if not len(raw):
        return
    found = [("", "sink_mass", test.threshold)]
    if not np.allclose(raw.run, normalised.run, rtol=SAME_ROWS):
        found.append(("rows that sum to one", "sink_mass_normalised", test.threshold))
    found += [(f"a sink from {factor:g} × uniform on", "sink_mass", factor) for factor in (2.0, 5.0)]
    for what, quantity, factor in found:
        pairs = pair.pairs(quantity)
        ratios, of_baseline = pairs.run / pairs.uniform, pair.baseline_values(quantity) / pairs.uniform
        numbers = f"{interval_text(ratios)} × uniform attention, {pair.baseline} {interval_text(of_baseline)}"
        if exceeds(of_baseline, factor):
            yield over_seeds(what, ratios, replace(test, threshold=factor), numbers)
        else:
            yield not_applicable(
                what, f"{pair.baseline} has no sink that could be removed, with its whole interval: {numbers}", TABLE
            )
