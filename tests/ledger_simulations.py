"""Tables of claims made from generated data: under a claim's null, under the claim, and under its opposite.

Each simulation draws the raw numbers that a statistic reads, gives them to the statistic's own functions, and puts the rows into the tables
that the claim reads, so that a verdict can be wrong only as often as a real one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from sinkorigin.claims.ledger import PRIMARY
from sinkorigin.claims.tests import SMALLEST_SHARE, decide
from sinkorigin.claims.verdicts import Judged, StudyTables
from sinkorigin.statistics import (
    change_points,
    conversions,
    curve_contrasts,
    first_positions,
    keys,
    mediation,
    sinks,
    super_neurons,
    variance,
    variance_through_output,
)
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.effects import Effect
from sinkorigin.statistics.grids import from_rows
from sinkorigin.statistics.kendall import order_interval
from sinkorigin.statistics.moments import ReplicatedMoments
from sinkorigin.statistics.uniform import uniform_score

LENGTH, TARGET = 64, 10
RESAMPLING = Resampling(replicates=200, seed=0)
CLAIMS = {claim.code: claim for claim in PRIMARY}


class InMemory(StudyTables):
    """The tables of one model on one prompt set, by name; those that are not given do not exist."""

    def __init__(self, frames: Mapping[str, pl.DataFrame], role: str = "pretrained"):
        super().__init__({}, Judged("m", "M", role), "p")
        self._frames = frames

    def read(self, name: str) -> pl.DataFrame | None:
        return self._frames.get(name)


def whole(schema, rows: Sequence[Mapping]) -> list[Mapping]:
    """Rows with the columns that they lack."""
    blank = dict.fromkeys(schema.names)
    return [blank | {k: v for k, v in {"model": "m", "prompts": "p"}.items() if k in blank} | row for row in rows]


def table(schema, rows: Sequence[Mapping]) -> pl.DataFrame:
    """A table from rows that lack columns."""
    return pl.DataFrame(from_rows(schema, whole(schema, rows)))


def plain_table(schema, rows: Sequence[Mapping]) -> pl.DataFrame:
    """Table made of rows of plain numbers, without the threads that Polars starts for it.

    What is made when this module is imported must start none: benchmarks/mutation.py forks afterwards, and threads are lost in a fork.
    """
    found = whole(schema, rows)
    return pl.DataFrame({name: [row[name] for row in found] for name in schema.names})


def verdict(code: str, frames: Mapping[str, pl.DataFrame]) -> str:
    """Verdict of a claim's primary test, as the only one of its family."""
    claim = CLAIMS[code]
    primary = next(claim.settings(InMemory(frames)))
    [found], _ = decide([claim.verdict(primary)], [claim.p(primary) if primary.applicable else None])
    return found


def names_of(name: str, ends) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


# ---- a model with a sink, which most claims ask for

DEPTH = 30
SINK_MASS = plain_table(
    sinks.SINK_MASS_SCHEMA,
    [
        {"layer": layer, "mass": mass, "mass_low": mass - 0.01, "mass_high": mass + 0.01, "uniform": uniform_score(0, LENGTH)}
        for layer in range(DEPTH)
        for mass in [0.7 if 3 <= layer < 20 else 0.05]
    ],
)  # fmt: skip


def changes(layers: Sequence[int], threshold: float) -> pl.DataFrame:
    """A rise, sure to pass its threshold, in each of these layers."""
    rise = {"kind": "rise", "threshold": threshold, "change": 3 * threshold, "change_low": 2 * threshold}
    return plain_table(change_points.SCHEMA, [rise | {"layer": int(layer)} for layer in layers])


SURGES = (2, 11, 20)  # layers of norm surges that a sink follows
WITH_SURGES = {
    "sink_mass": SINK_MASS,
    "norm_changes": changes(SURGES, 2.0),
    "sink_changes": changes([layer + 1 for layer in SURGES], 0.1),
}


# ---- scores by sequence that are nearly all or nothing, as SmolLM2's are: of amplification at λ = 4 the mean is .117 and the median .042


def scores(rng, sequences: int, converted: np.ndarray | float = 0.45) -> np.ndarray:
    """(N,) scores: large in a share of the sequences, or in those that a mask chooses."""
    chosen = rng.random(sequences) < converted if isinstance(converted, float) else converted
    return np.where(
        chosen,
        rng.normal(0.22, 0.07, sequences).clip(0.08, 0.6),
        rng.lognormal(np.log(0.022), 0.35, sequences).clip(0, 0.055),
    )


def effect(kind: str, score: np.ndarray, unedited: np.ndarray, strength: float = 1.0) -> Effect:
    """An edit of the paper's position, until the onset, with its scores by sequence."""
    identity = {
        "intervention": kind, "kind": kind, "strength": strength, "mean_factor": None, "site": "value_aggregation", "layers": [0, 1, 2],
        "positions": [TARGET], "layers_rule": "until_onset", "target": TARGET,
    }  # fmt: skip
    return Effect(
        identity, {"score": score}, {"score": unedited}, RESAMPLING, {"uniform": uniform_score(TARGET, LENGTH)}
    )


# ---- the claims


def position_0(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    share = {"null": 0.5, "claim": 0.8, "opposite": 0.2}[truth]
    rows = first_positions.sink_rows(scores(rng, sequences, share)[:, None] * 3.5, LENGTH, RESAMPLING)
    return {"first_position_sinks": table(first_positions.SINKS_SCHEMA, list(rows))}


POSITIONS = np.arange(16)
GROUPS = np.floor(np.log2(np.maximum(POSITIONS, 0.5))).astype(int) + 1  # 0, 1, 2-3, 4-7, …


def vectors(rng, sequences: int, curve: np.ndarray, *, width: int = 8, norms: float = 0.4) -> np.ndarray:
    """(N, T, d) vectors whose variance over sequences follows a curve; tokens' vectors differ in norm."""
    shape = (sequences, len(curve))
    return rng.normal(size=(*shape, width)) * (rng.lognormal(0, norms, shape) * np.sqrt(curve))[..., None]


def replicated_variances(values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(1 + R, T) variances over sequences and their replicates."""
    moments = ReplicatedMoments(RESAMPLING.weights_with_data(len(values)) if weights is None else weights)
    moments.add(values.astype(np.float32))
    return moments.variance()


def trend(values: np.ndarray) -> dict[str, pl.DataFrame]:
    replicated, sequences = replicated_variances(values), len(values)
    row = {
        "site": "value_aggregation",
        "layer": 0,
        "sequences": sequences,
        "kendall_tau": 0.0,
        **names_of("ratio", (1.0, 1.0, 1.0)),
    }
    for name in ("ratio_to_highest", "largest_rise", "last_to_second"):
        row |= names_of(name, variance.RATIOS[name](replicated, POSITIONS, RESAMPLING, sequences))
    return {"variance_trend": table(variance.TREND_SCHEMA, [row])}


def variance_at_first(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: position 0 varies a tenth more than the others, which is no more than the test allows."""
    curve = np.ones(16)
    curve[{"null": 0, "claim": 0, "opposite": 5}[truth]] = 1.1 if truth == "null" else 5.0
    return trend(vectors(rng, sequences, curve))


def variance_falls(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: the variance is the same at all positions, so exactly that no rise by a tenth can be."""
    curve = {"null": 1.0, "claim": 0.5, "opposite": 2.0}[truth] ** GROUPS
    return trend(vectors(rng, sequences, curve, width=64, norms=0.0))


def variance_rises_by_a_tenth(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: the curve falls, but for one rise by the tenth that the test allows."""
    curve = 0.5 ** GROUPS.astype(float)
    curve[GROUPS == 4] = 1.1 * 0.5**3
    return trend(
        vectors(rng, sequences, curve if truth == "null" else {"claim": 0.5, "opposite": 2.0}[truth] ** GROUPS)
    )


def _through_output(rng, truth: str, sequences: int, *, step: float, shared: float) -> dict[str, pl.DataFrame]:
    """Variances before and after W_O in four layers.

    Args:
        step: factor between the variances of two groups; 1 where no group differs from another.
        shared: share of the sampling error that both sides share.
    """
    order = {"null": None, "claim": np.arange(5), "opposite": np.arange(5)[::-1]}[truth]
    halves = variance_through_output.half_weights(RESAMPLING, sequences)
    orders = []
    for _ in range(4):
        before = vectors(rng, sequences, step**GROUPS)
        noise = np.sqrt(shared) * before / np.sqrt(step**GROUPS)[:, None] + np.sqrt(1 - shared) * vectors(
            rng, sequences, np.ones(16)
        )
        after = noise * np.sqrt(step ** (rng.permutation(5) if order is None else order)[GROUPS])[:, None]
        whole, split = [], []
        for values in (before, after):
            whole.append(variance.group_means(replicated_variances(values), POSITIONS))
            both = replicated_variances(values, np.concatenate(halves)).reshape(2, 1 + RESAMPLING.replicates, -1)
            split.append(np.stack([variance.group_means(half, POSITIONS) for half in both]))
        orders.append(variance_through_output.group_order(*whole, *split))
    taus = names_of("tau", order_interval(np.mean(orders, axis=0), RESAMPLING))
    rows = [{"reading": "group_tau", "layers": 4, **taus}]
    rows += [
        {"reading": reading, "layers": 4, **names_of("tau", (0.0, 0.0, 0.0))} for reading in ("position_tau", "dim_tau")
    ]
    return {"variance_through_output_mean": table(variance_through_output.MEAN_SCHEMA, rows)}


def order_after_output(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: the order after W_O has nothing to do with that before."""
    return _through_output(rng, truth, sequences, step=0.6, shared=0.0)


def flat_before_output(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: no position differs from another, and both sides have the same sampling error."""
    return _through_output(rng, truth, sequences, step=1.0 if truth == "null" else 0.6, shared=0.9)


def sink_after_surge(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: the sink mass rises at random layers."""
    layers = np.arange(DEPTH)
    if truth == "opposite":
        norm = [number for number in layers if number % 3 == 0]
        sink = rng.choice([number for number in layers if number % 3 == 2], 8, replace=False)
    else:
        norm = np.sort(rng.choice(layers[:-1], rng.integers(2, 5), replace=False))
        sink = rng.choice(layers, rng.integers(1, 7), replace=False)
        if truth == "claim":
            norm = [2, 9, 16, 23]
            sink = [layer + rng.integers(0, 2) for layer in norm]
    return {"sink_mass": SINK_MASS, "norm_changes": changes(norm, 2.0), "sink_changes": changes(np.sort(sink), 0.1)}


def _surge_rows(rng, truth: str, sequences: int, *, surges: int) -> dict[str, pl.DataFrame]:
    """Surges of which two neurons write a share, that varies between sequences as the norm does."""
    share = {"null": 0.5, "claim": 0.75, "opposite": 0.25}[truth]
    rows = []
    for layer in SURGES[:surges]:
        norm = rng.lognormal(6, 0.25, sequences)
        written = rng.beta(15 * share, 15 * (1 - share), (2, sequences))
        tokens = {
            "activation": np.ones((sequences, 2)), "on_residual": (written[0] * norm * 0.9 * norm)[:, None] * [0.7, 0.3],
            "on_largest": (written[1] * 0.8 * norm)[:, None] * [0.7, 0.3], "added": 0.9 * norm,
        }  # fmt: skip
        leaving = super_neurons.FirstResiduals(norm, 0.8 * norm, 0)
        found = super_neurons.written_by_few(tokens, np.array([0, 1]), 0.1 * norm, leaving, RESAMPLING)
        rows.append({"layer": layer, "largest": 0, **found})
    frames = {
        "sink_mass": SINK_MASS,
        "norm_changes": changes(SURGES[:surges], 2.0),
        "sink_changes": changes([layer + 1 for layer in SURGES[:surges]], 0.1),
    }
    return frames | {"super_neuron_surge": table(super_neurons.SURGE_SCHEMA, rows)}


def one_surge(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    return _surge_rows(rng, truth, sequences, surges=1)


def three_surges(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: the few neurons write exactly half of each of three surges, so that any of them can be wrong."""
    return _surge_rows(rng, truth, sequences, surges=3)


def fixed_key(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Keys of two heads whose cosine with their prediction is 0.9 on average, over or under it, skewed as bounded cosines are."""
    mean = {"null": 0.9, "claim": 0.97, "opposite": 0.8}[truth]
    cosines = np.minimum(mean + (1 - mean) * (1 - rng.gamma(1.5, 1 / 1.5, (sequences, 2))), 1.0) if truth == "claim" else (
        1 - (1 - mean) * rng.gamma(3, 1 / 3, (sequences, 2)).clip(0, 10)
    )  # fmt: skip
    predicted = np.tile([1.0, 0.0, 0.0], (sequences, 2, 1))
    key = np.stack([cosines, np.sqrt(1 - np.square(np.clip(cosines, -1, 1))), np.zeros_like(cosines)], axis=-1)
    values = {
        "key": key, "one_dim": predicted, "two_dims": predicted, "one_hot": np.ones((sequences, 2)), "top_dim": np.zeros((sequences, 2), int),
    }  # fmt: skip
    rows = keys.collapse_rows(values, RESAMPLING, {"model": "m", "prompts": "p"}, 3, alike=False)
    return {"sink_mass": SINK_MASS.filter(pl.col("layer").is_in([2, 3])), "key_collapse": pl.DataFrame(rows)}


def keys_of_sequences(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Keys of two heads whose cosine between two sequences is 0.9 on average, or more, or less."""
    mean = {"null": 0.9, "claim": 0.97, "opposite": 0.8}[truth]
    apart = np.clip(
        1 - (1 - np.sqrt(mean)) * rng.gamma(3, 1 / 3, (sequences, 2)), -1, 1
    )  # cosine with the common direction
    across = rng.normal(size=(sequences, 2, 8))
    across *= np.sqrt(1 - np.square(apart))[..., None] / np.linalg.norm(across, axis=-1, keepdims=True)
    key = np.concatenate([apart[..., None], across], axis=-1)
    values = {
        "key": key, "one_dim": None, "two_dims": None, "one_hot": np.ones((sequences, 2)), "top_dim": np.zeros((sequences, 2), int),
    }  # fmt: skip
    rows = keys.collapse_rows(values, RESAMPLING, {"model": "m", "prompts": "p"}, 3, alike=False)
    return {"sink_mass": SINK_MASS.filter(pl.col("layer").is_in([2, 3])), "key_collapse": pl.DataFrame(rows)}


def aligned_heads(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Six layers of four heads, alike within a layer. Null: which heads are aligned has nothing to do with which have positive scores."""
    layer = np.repeat(np.arange(6), 4)
    depth = {"aligned": rng.normal(size=6), "positive": rng.normal(size=6)}
    aligned, positive = (depth[name][layer] + 0.5 * rng.normal(size=24) > 0 for name in ("aligned", "positive"))
    if truth != "null":
        positive = aligned if truth == "claim" else ~aligned
        if not 8 <= aligned.sum() <= 16:
            return aligned_heads(rng, truth, sequences)

    def replicated(mean: np.ndarray, spread: float) -> np.ndarray:
        return RESAMPLING.means(np.clip(mean + spread * rng.normal(size=(sequences, 24)), 0, 1))

    found = keys.aligned_heads(
        replicated(np.where(aligned, 0.75, 0.2), 0.05), replicated(np.where(positive, 0.999, 0.5), 0.002), replicated(np.full(24, 0.3), 0.1),
        layer, RESAMPLING,
    )  # fmt: skip
    return {"sink_mass": SINK_MASS, "aligned_heads": table(keys.ALIGNED_HEADS_SCHEMA, list(found))}


def mask(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: half of the sequences are converted."""
    share = {"null": 0.5, "claim": 0.85, "opposite": 0.15}[truth]
    edit = effect("mask", scores(rng, sequences, share) * 2, np.full(sequences, 0.02))
    return {"conversions": table(conversions.SCHEMA, list(conversions.rows([edit])))}


STRENGTHS = (2.0, 4.0, 8.0, 16.0)


_AREA = 0.625  # mean over log λ of the share of the sequences that are ever converted, of those that begin at a strength each


def _curves(rng, truth: str, sequences: int, share: float, more: float = SMALLEST_SHARE) -> dict[str, pl.DataFrame]:
    """Each sequence is converted from a strength of its own on, or never, by the treatment and by the control.

    Args:
        share: of the sequences, that the control converts at some strength under the null.
        more: by how much the treatment converts more, mean over log λ, under the null.
    """
    shares = {"null": (share + more / _AREA, share), "claim": (0.6, 0.05), "opposite": (0.05, 0.6)}[truth]
    edits = []
    for kind, converts in zip(("variance_amplification", "norm_control"), shares, strict=True):
        ever = rng.random(sequences) < converts
        begins = rng.integers(0, len(STRENGTHS), sequences)
        for number, strength in enumerate(STRENGTHS):
            seen = scores(rng, sequences, ever & (begins <= number)) * 2
            edits.append(effect(kind, seen, np.full(sequences, 0.02), strength))
    return {"curve_contrasts": table(curve_contrasts.SCHEMA, list(curve_contrasts.rows(edits)))}


def curves(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: norm control converts four of ten sequences at some strength, and amplification a tenth more over the curve."""
    return _curves(rng, truth, sequences, 0.4)


def curves_of_few(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: norm control converts hardly any sequence, and amplification a tenth more over the curve."""
    return _curves(rng, truth, sequences, 0.04)


def curves_of_none(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: neither converts any sequence."""
    return _curves(rng, truth, sequences, 0.0, more=0.0)


def passes(rng, sequences: int, lost: Mapping[str, float], controls: Mapping[str, str]) -> Iterator[dict]:
    """Rows of the patched passes: position 0 is a sink in nine of ten sequences, and loses it under a removal with some probability."""
    sink = rng.random(sequences) < 0.9
    under = {None: sink} | {name: sink & (rng.random(sequences) >= share) for name, share in lost.items()}
    for name, kept in under.items():
        for number, score in enumerate(scores(rng, sequences, kept) * 4):
            yield {
                "cause": None, "kind": None, "strength": None, "layers": [], "target": TARGET, "mediator": name, "mediator_layers": [2],
                "direction": "none" if name is None else "removed", "control_of": controls.get(name), "sequence": number, "score": 0.02,
                "first_score": score if kept[number] else 0.02, "second_score": 0.02,
            }  # fmt: skip


def _removal(rng, truth: str, sequences: int, removal: str, control: str, share: float) -> dict[str, pl.DataFrame]:
    treated, held = {"null": (share + SMALLEST_SHARE, share), "claim": (0.8, 0.05), "opposite": (0.05, 0.8)}[truth]
    rows = list(passes(rng, sequences, {removal: treated, control: held}, {control: removal}))
    return {"removals": table(mediation.REMOVALS_SCHEMA, list(mediation.removal_rows(rows, LENGTH, RESAMPLING)))}


def averaged(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: the target's aggregation takes the sink away in a tenth more of the sequences than another sequence's."""
    return _removal(rng, truth, sequences, "aggregation by target", "aggregation by next", 0.5)


def silent(rng, truth: str, sequences: int) -> dict[str, pl.DataFrame]:
    """Null: random neurons take the sink away seldom, and super neurons in a tenth more of the sequences."""
    return _removal(rng, truth, sequences, "super neurons by zero", "random neurons by zero", 0.1)


@dataclass(frozen=True)
class Simulation:
    """How the tables of a claim are generated.

    Attributes:
        code: of the claim.
        frames: (generator, "null", "claim" or "opposite", N) → the tables that it reads.
        refutable: whether the null lies on the threshold, so that "contradicted" is wrong too; else it lies on the other side of it.
        costly: whether one draw takes tens of milliseconds.
    """

    code: str
    frames: Callable[[np.random.Generator, str, int], dict[str, pl.DataFrame]]
    refutable: bool = True
    costly: bool = False

    def __str__(self) -> str:
        return f"{self.code}-{self.frames.__name__}"

    def verdicts(self, truth: str, sequences: int, draws: int, seed: int = 0) -> list[str]:
        """Verdicts of as many generated studies."""
        rng = np.random.default_rng(seed)
        return [verdict(self.code, self.frames(rng, truth, sequences)) for _ in range(draws)]


SIMULATIONS = (
    Simulation("C0", position_0),
    Simulation("C1", variance_at_first),
    Simulation("C2", variance_falls),
    Simulation("C2", variance_rises_by_a_tenth),
    Simulation("C3", order_after_output, refutable=False, costly=True),
    Simulation("C3", flat_before_output, costly=True),
    Simulation("C4", sink_after_surge),
    Simulation("C5", one_surge),
    Simulation("C5", three_surges),
    Simulation("C6", three_surges),
    Simulation("C7a", keys_of_sequences),
    Simulation("C7b", fixed_key),
    Simulation("C8", aligned_heads, costly=True),
    Simulation("C9", mask),
    Simulation("C10", curves),
    Simulation("C10", curves_of_few),
    Simulation("C10", curves_of_none, refutable=False),
    Simulation("C11a", averaged),
    Simulation("C11b", silent),
)
