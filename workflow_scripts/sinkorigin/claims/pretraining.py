"""Claims about models that were trained here: each other run against softmax, paired by seed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from sinkorigin.claims.verdicts import (
    DOMINANCE_FACTOR,
    NOT_APPLICABLE,
    SINK_FACTOR,
    Judged,
    StudyTables,
    decided,
    row_of,
)


def paired_interval(differences: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of paired differences over seeds, and its 95 % Student interval (n − 1 degrees of freedom; none for n = 1)."""
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, None, None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def of_pretraining(root: Path, models: Sequence[Judged], prompts: Sequence[str]) -> Iterator[dict]:
    """Each other run against softmax, paired by seed."""
    trained = [model for model in models if model.role == "trained"]
    path = "statistics/pretraining.parquet"
    if not trained or not (root / path).is_file():
        return
    losses = {(row["run"], row["seed"]): row for row in pl.read_parquet(root / path).to_dicts()}
    for base in sorted({m.run for m in trained if m.variant == "softmax"}):
        for other in sorted({m.run for m in trained if m.variant != "softmax"}):
            ours = {m.seed: m for m in trained if m.run == other}
            theirs = {m.seed: m for m in trained if m.run == base}
            seeds = sorted(set(ours) & set(theirs))
            if not seeds:
                continue
            example = ours[seeds[0]]
            form = f" ({example.reading})" if example.reading else ""
            compared = f"{other}{form} − {base}, seeds {', '.join(map(str, seeds))}"
            for name, paper in (
                ("train_loss", "2.7073 ± 0.0095 against 2.7483 ± 0.0118"),
                ("validation_loss", "2.7421 ± 0.0066 against 2.7812 ± 0.0109"),
            ):
                pairs = [(losses[other, seed][name], losses[base, seed][name]) for seed in seeds]
                if any(loss is None for pair in pairs for loss in pair):
                    continue
                value, low, high = paired_interval([a - b for a, b in pairs])
                yield row_of(
                    f"lower {name.replace('_', ' ')}",
                    f"{other} reaches a lower {name.replace('_', ' ')} than {base}",
                    "difference of the last losses (nats per token), mean over seeds", compared, None, paper, "< 0", path,
                    **decided(value, low, high, lambda x: x < 0, _pairs(pairs)),
                )  # fmt: skip
            for prompt_set in prompts:
                yield from _structure_of_pair(root, ours, theirs, seeds, compared, other, base, prompt_set)


def _pairs(pairs: Sequence[tuple[float, ...]]) -> str:
    return "; ".join(f"{a:.4f} against {b:.4f}" for a, b in pairs)


def _structure_of_pair(root, ours, theirs, seeds, compared, other, base, prompts) -> Iterator[dict]:
    """Disparity and sink of the trained models on one prompt set."""

    def rows_of(model: Judged, name: str) -> pl.DataFrame | None:
        return StudyTables(root, model.name, prompts).read(name)

    for claim, statement, quantity, name, column, beside, factor, lacks, paper in (
        (
            "less dimension disparity", f"{other} has a smaller dominance ratio of the first token than {base}",
            "difference of the largest dominance ratio of a layer, mean over seeds", "disparity_by_layer", "first",
            "rest", DOMINANCE_FACTOR, "no dimension disparity", "33.74 ± 2.73 against 82.67 ± 8.09",
        ),
        (
            "less sink", f"{other} has less attention on position 0 than {base}",
            "difference of the largest sink mass of a layer, mean over seeds", "sink_mass", "mass", "uniform",
            SINK_FACTOR, "no sink", "no sink against one from layer 5 on",
        ),
    ):  # fmt: skip
        found = {
            (side, seed): rows_of(models[seed], name) for side, models in enumerate((ours, theirs)) for seed in seeds
        }
        if any(table is None for table in found.values()):
            continue
        peaks = {}
        for key, table in found.items():
            own = table.filter(pl.col("site") == "residual") if "site" in table.columns else table
            peaks[key] = own.sort(column, descending=True, nulls_last=True).to_dicts()[0]
        pairs = [(peaks[0, seed][column], peaks[1, seed][column]) for seed in seeds]
        value, low, high = paired_interval([a - b for a, b in pairs])
        judged = decided(value, low, high, lambda x: x < 0, _pairs(pairs))
        # what the baseline does not have, nothing can have less of
        if all(peaks[1, seed][column] < factor * peaks[1, seed][beside] for seed in seeds):
            levels = "; ".join(
                f"{peaks[1, seed][column]:.3g} ({beside} {peaks[1, seed][beside]:.3g})" for seed in seeds
            )
            judged |= {
                "verdict": NOT_APPLICABLE,
                "reason": f"{base} has {lacks} to begin with at this scale: {levels}; {_pairs(pairs)}",
            }
        yield row_of(
            claim, statement, quantity, compared, prompts, paper, "< 0",
            ", ".join(f"statistics/{side[seed].name}/{prompts}/{name}.parquet" for side in (ours, theirs) for seed in seeds),
            **judged,
        )  # fmt: skip
    yield from _effective_rank_of_pair(rows_of, ours, theirs, seeds, compared, other, base, prompts)


def _effective_rank_of_pair(rows_of, ours, theirs, seeds, compared, other, base, prompts) -> Iterator[dict]:
    found = {
        (side, seed): rows_of(models[seed], "effective_rank_mean")
        for side, models in enumerate((ours, theirs))
        for seed in seeds
    }
    if any(table is None for table in found.values()):
        return
    ranks = {
        key: table.filter((pl.col("positions") == "all") & ~pl.col("centred")).to_dicts()[0]
        for key, table in found.items()
    }
    pairs = [(ranks[0, seed]["effective_rank"], ranks[1, seed]["effective_rank"]) for seed in seeds]
    value, low, high = paired_interval([a - b for a, b in pairs])
    yield row_of(
        "higher effective rank", f"{other} has a residual stream of higher effective rank than {base}",
        "difference of the effective ranks, mean over layers and seeds", compared, prompts,
        "445.96 ± 5.37 against 343.71 ± 15.63", "> 0",
        ", ".join(f"statistics/{side[seed].name}/{prompts}/effective_rank_mean.parquet" for side in (ours, theirs) for seed in seeds),
        **decided(value, low, high, lambda x: x > 0, f"{_pairs(pairs)}, of {ranks[0, seeds[0]]['tokens']} tokens"),
    )  # fmt: skip
