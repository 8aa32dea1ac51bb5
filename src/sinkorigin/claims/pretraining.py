"""Claims about models that were trained here: each run against the softmax run of the same data and size, paired by seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sinkorigin import tables
from sinkorigin.claims.verdicts import DOMINANCE_FACTOR, NOT_APPLICABLE, Judged, decided, row_of
from sinkorigin.statistics.pretraining_comparison import paired_interval
from sinkorigin.statistics.uniform import SINK_FACTOR

TABLE = "statistics/pretraining_by_seed.parquet"
SAME_ROWS = 1e-3  # raw and row-normalised sink mass that differ by less, relatively, count as one quantity

# variant → quantity → what the paper reports of it and of softmax
PAPER = {
    "headwise_rmsnorm": {
        "train_loss": "2.7073 ± 0.0095 against 2.7483 ± 0.0118",
        "validation_loss": "2.7421 ± 0.0066 against 2.7812 ± 0.0109",
        "effective_rank": "445.96 ± 5.37 against 343.71 ± 15.63",
        "dimension_disparity": "33.74 ± 2.73 against 82.67 ± 8.09",
        "sink_mass": "no sink against one from layer 5 on",
    },
    "sigmoid": {
        "validation_loss": "ends worse",
        "validation_loss_over_training": "trains more slowly",
        "sink_mass": "no sink",
    },
    "softmax": {"dimension_disparity": "82.67 ± 8.09", "sink_mass": "from layer 5 on"},
}


@dataclass(frozen=True)
class _Run:
    """Values of one run by seed, on one prompt set or of quantities without one.

    Attributes:
        name: name of the run.
        variant: its attention variant.
        reading: which form of the variant, where the paper leaves several open.
        rows: its rows of ``pretraining_comparison.BY_SEED_SCHEMA``.
    """

    name: str
    variant: str
    reading: str | None
    rows: pl.DataFrame

    def values(self, quantity: str) -> dict[int, float]:
        """Seed → value, of the seeds that have one."""
        known = self.rows.filter(pl.col("quantity") == quantity).drop_nulls("value")
        return dict(known.select("seed", "value").rows())

    def uniform(self, quantity: str) -> float:
        """What uniform attention would give."""
        return self.rows.filter(pl.col("quantity") == quantity)["uniform"][0]

    def paper(self, quantity: str) -> str | None:
        """What the paper reports of the quantity; None where it reports nothing."""
        return PAPER.get(self.variant, {}).get(quantity)

    @property
    def label(self) -> str:
        """Name of the run with its reading."""
        return f"{self.name} ({self.reading})" if self.reading else self.name


def pretraining_claims(
    by_seed: Sequence[str | Path], models: Sequence[Judged], prompts: Sequence[str]
) -> Iterator[dict]:
    """What each baseline has, then each other run against its baseline.

    Args:
        by_seed: path of the table of every training's quantities; none in a study that trains nothing.
        models: the models, of which trained ones say which reading of their variant they have.
        prompts: names of the prompt sets.
    """
    if not by_seed:
        return
    [path] = by_seed
    table = pl.DataFrame(tables.read_table(path))
    readings = {model.run: model.reading for model in models if model.role == "trained"}

    def run_of(name: str, prompt_set: str | None) -> _Run:
        rows = table.filter((pl.col("run") == name) & pl.col("prompts").eq_missing(prompt_set))
        variant = table.filter(pl.col("run") == name)["variant"][0]
        return _Run(name, variant, readings.get(name), rows)

    pairs = table.select("run", "baseline").unique(maintain_order=True).drop_nulls().rows()
    studied = [name for name in prompts if name in table["prompts"].unique()]
    for run, baseline in pairs:
        if run == baseline:
            for name in studied:
                yield from _baseline(run_of(run, name), name)
    for run, baseline in pairs:
        if run != baseline:
            yield from _losses(run_of(run, None), run_of(baseline, None))
            for name in studied:
                yield from _structure(run_of(run, name), run_of(baseline, name), name)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) != 1 else ''} {', '.join(map(str, seeds))}"


def _baseline(base: _Run, prompts: str) -> Iterator[dict]:
    """Whether the baseline has at all what a variant may remove."""
    masses, ratios = base.values("sink_mass"), base.values("disparity_over_rest")
    disparities = base.values("dimension_disparity")
    if not masses or not ratios:
        return
    uniform = base.uniform("sink_mass")
    for claim, statement, quantity, values, factor, paper, reason in (
        (
            "baseline forms a sink", f"{base.name}, the baseline, forms a sink at position 0",
            "largest sink mass of a layer / uniform attention, mean over seeds",
            [mass / uniform for mass in masses.values()], SINK_FACTOR, base.paper("sink_mass"),
            f"mass {_listed(masses.values())}; uniform attention would give {uniform:.3f}",
        ),
        (
            "baseline has a dimension disparity", f"{base.name}, the baseline, has a dimension disparity",
            "first token's dominance ratio / the others', in the layer where it is largest, mean over seeds",
            list(ratios.values()), DOMINANCE_FACTOR, base.paper("dimension_disparity"),
            f"dominance ratio of the first token {_listed(disparities.values())}",
        ),
    ):  # fmt: skip
        yield row_of(
            claim, statement, quantity, f"{base.name}, {_seeds(list(masses))}", prompts, paper, f"> {factor:g}", TABLE,
            **decided(*paired_interval(values), lambda x, factor=factor: x > factor, reason),
        )  # fmt: skip


def _listed(values) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _paired(run: _Run, base: _Run, quantity: str) -> tuple[list[int], list[tuple[float, float]]]:
    """Seeds that both have, and their values."""
    values, base_values = run.values(quantity), base.values(quantity)
    seeds = sorted(values.keys() & base_values.keys())
    return seeds, [(values[seed], base_values[seed]) for seed in seeds]


def _difference(run, base, quantity, claim, statement, words, prompts, *, lower: bool) -> Iterator[dict]:
    """Claim that the difference of a quantity to the baseline lies below or above 0; none without common seeds."""
    seeds, pairs = _paired(run, base, quantity)
    if not pairs:
        return
    values = "; ".join(f"{a:.4f} against {b:.4f}" for a, b in pairs)
    yield row_of(
        claim, statement, words, f"{run.label} − {base.name}, {_seeds(seeds)}", prompts, run.paper(quantity),
        "< 0" if lower else "> 0", TABLE,
        **decided(
            *paired_interval([a - b for a, b in pairs]), (lambda x: x < 0) if lower else (lambda x: x > 0), values
        ),
    )  # fmt: skip


def _losses(run: _Run, base: _Run) -> Iterator[dict]:
    last = "difference of the last losses (nats per token), mean over seeds"
    if run.variant == "sigmoid":  # the paper claims the opposite of it
        yield from _difference(
            run, base, "validation_loss_over_training", "trains more slowly",
            f"{run.name} trains more slowly than {base.name}",
            "difference of the validation losses (nats per token), mean over the training and over seeds", None,
            lower=False,
        )  # fmt: skip
        yield from _difference(
            run, base, "validation_loss", "ends worse", f"{run.name} ends at a higher validation loss than {base.name}",
            last, None, lower=False,
        )  # fmt: skip
        return
    for quantity in ("train_loss", "validation_loss"):
        name = quantity.replace("_", " ")
        yield from _difference(
            run, base, quantity, f"lower {name}", f"{run.name} reaches a lower {name} than {base.name}", last, None,
            lower=True,
        )  # fmt: skip


def _structure(run: _Run, base: _Run, prompts: str) -> Iterator[dict]:
    """Disparity, sink and rank on one prompt set; what the baseline does not have, nothing can have less of."""
    ratios, disparities = base.values("disparity_over_rest"), base.values("dimension_disparity")
    lacking = ""
    if ratios and all(ratio < DOMINANCE_FACTOR for ratio in ratios.values()):
        rests = [disparities[seed] / ratios[seed] for seed in ratios]
        levels = "; ".join(f"{a:.3g} (rest {b:.3g})" for a, b in zip(disparities.values(), rests, strict=True))
        lacking = f"{base.name} has no dimension disparity to begin with at this scale: {levels}"
    for row in _difference(
        run, base, "dimension_disparity", "less dimension disparity",
        f"{run.name} has a smaller dominance ratio of the first token than {base.name}",
        "difference of the largest dominance ratio of a layer, mean over seeds", prompts, lower=True,
    ):  # fmt: skip
        yield _unless(lacking, row)
    yield from _sinks(run, base, prompts)
    yield from _difference(
        run, base, "effective_rank", "higher effective rank",
        f"{run.name} has a residual stream of higher effective rank than {base.name}",
        "difference of the effective ranks, mean over layers and seeds", prompts, lower=False,
    )  # fmt: skip


def _unless(lacking: str, row: dict) -> dict:
    return row | {"verdict": NOT_APPLICABLE, "reason": f"{lacking}; {row['reason']}"} if lacking else row


def _sinks(run: _Run, base: _Run, prompts: str) -> Iterator[dict]:
    """Attention on position 0 as it is and, where the variant's rows do not sum to one, with rows that do."""
    raw, normalised = run.values("sink_mass"), run.values("sink_mass_normalised")
    if not raw:
        return
    differ = any(abs(normalised[seed] - mass) > SAME_ROWS * abs(mass) for seed, mass in raw.items())
    for quantity, suffix in [("sink_mass", "")] + [("sink_mass_normalised", ", rows normalised")] * differ:
        uniform = base.uniform(quantity)
        base_values = base.values(quantity)
        lacking = ""
        if all(mass < SINK_FACTOR * uniform for mass in base_values.values()):
            levels = "; ".join(f"{mass:.3g} (uniform {uniform:.3g})" for mass in base_values.values())
            lacking = f"{base.name} has no sink to begin with at this scale: {levels}"
        for row in _difference(
            run, base, quantity, f"less sink{suffix}",
            f"{run.name} has less attention on position 0 than {base.name}{suffix}",
            "difference of the largest sink mass of a layer, mean over seeds", prompts, lower=True,
        ):  # fmt: skip
            yield _unless(lacking, row | {"paper": run.paper("sink_mass")})
        masses = run.values(quantity)
        ratios = [mass / uniform for mass in masses.values()]
        row = row_of(
            f"sink removed{suffix}", f"no layer of {run.name} has a sink at position 0{suffix}",
            "largest sink mass of a layer / uniform attention, mean over seeds", f"{run.label}, {_seeds(list(masses))}",
            prompts, run.paper("sink_mass"), f"< {SINK_FACTOR:g}", TABLE,
            **decided(
                *paired_interval(ratios), lambda x: x < SINK_FACTOR,
                f"mass {_listed(masses.values())}; {base.name} {_listed(base_values.values())}; uniform {uniform:.3f}",
            ),
        )  # fmt: skip
        yield _unless(lacking, row)
