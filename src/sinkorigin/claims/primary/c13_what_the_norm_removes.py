"""C13: head-wise RMSNorm removes the sink, lowers the disparity, raises the effective rank, and restores parity across positions.

Each is tested only where the baseline has what is to be removed, with its whole interval over seeds.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from sinkorigin.claims.claim import Setting, not_applicable
from sinkorigin.claims.primary.c12_trains_faster import VARIANT
from sinkorigin.claims.run_pairs import TABLE, RunPair, TrainingClaim, exceeds, interval_text, over_seeds, sink_removed
from sinkorigin.claims.tests import Test
from sinkorigin.statistics.uniform import SINK_FACTOR

DISPARITY = 2.0  # times the others' dominance ratio, where the first token has a dimension disparity
LOWER_DISPARITY = 0.9  # times the baseline's
HIGHER_RANK = 1.05  # times the baseline's, and what position 0 must cost the baseline of its rank
PARITY = 0.25  # largest |ln| of the variance at position 0 over the others'


def sink(pair: RunPair) -> Iterator[Setting]:
    """Attention on position 0."""
    return sink_removed(pair, _SINK)


def disparity(pair: RunPair) -> Iterator[Setting]:
    """The first token's dominance ratio against the baseline's: mean over layers, largest layer, other thresholds."""
    for what, suffix, thresholds in (
        ("", "", (LOWER_DISPARITY, 1.0, 0.5)),
        ("largest layer", "_largest", (LOWER_DISPARITY,)),
    ):
        pairs = pair.pairs(f"dimension_disparity{suffix}")
        if not len(pairs):
            return
        over_rest = pair.baseline_values(f"disparity_over_rest{suffix}")
        if not exceeds(over_rest, DISPARITY):
            reason = (
                f"{pair.baseline} has no dimension disparity that could be lowered: its first token's dominance ratio is "
                f"{interval_text(over_rest)} times the others', and would have to be {DISPARITY:g}; {pairs.text}"
            )
            yield not_applicable(what, reason, TABLE)
            continue
        test = (
            _DISPARITY
            if not suffix
            else replace(_DISPARITY, quantity=_DISPARITY.quantity.replace("mean over layers", what))
        )
        for threshold in thresholds:
            words = (
                what if threshold == LOWER_DISPARITY else ", ".join(filter(None, [what, f"threshold {threshold:g}"]))
            )
            yield over_seeds(
                words, pairs.run / pairs.baseline, replace(test, threshold=threshold), pairs.text, log=True
            )


def rank(pair: RunPair) -> Iterator[Setting]:
    """The effective rank against the baseline's, where position 0 costs the baseline some; without position 0; other thresholds."""
    pairs, later = pair.pairs("effective_rank"), pair.pairs("effective_rank_later")
    if not len(pairs):
        return
    whole = pair.baseline_values("effective_rank")
    costs = pair.baseline_values("effective_rank_later") / whole if len(whole) else whole
    if not exceeds(costs, HIGHER_RANK):
        reason = (
            f"position 0 does not lower the effective rank of {pair.baseline}, so that nothing is to be raised: without it the rank is "
            f"{interval_text(costs)} times that with it, and would have to be {HIGHER_RANK:g}; {pairs.text}"
        )
        yield not_applicable("", reason, TABLE)
        return
    for threshold in (HIGHER_RANK, 1.0, 1.2):
        what = "" if threshold == HIGHER_RANK else f"threshold {threshold:g}"
        yield over_seeds(what, pairs.run / pairs.baseline, replace(_RANK, threshold=threshold), pairs.text, log=True)
    test = replace(_RANK, quantity=f"{_RANK.quantity}, without position 0")
    yield over_seeds("without position 0", later.run / later.baseline, test, later.text, log=True)


def parity(pair: RunPair) -> Iterator[Setting]:
    """The variance at position 0 against the others' of what enters W_O, where the baseline has more of it there; mean over layers."""
    if pair.first_token != "drawn":
        if not pair.drawn:
            reason = "all sequences begin with one token, so position 0 has no variance; measure prompts whose first token is drawn"
            yield not_applicable("", reason, TABLE)
        return
    for what, quantity in (("", "variance_ratio"), ("mean over layers", "variance_ratio_mean")):
        pairs, base = pair.pairs(quantity), pair.baseline_values(quantity)
        if not len(pairs):
            return
        numbers = f"ratios {pairs.text}"
        if not exceeds(np.log(base), PARITY):
            reason = (
                f"{pair.baseline} has no more variance at position 0 than elsewhere, ln ratio {interval_text(np.log(base))}, and would "
                f"have to have {PARITY:g}; {numbers}"
            )
            yield not_applicable(what, reason, TABLE)
            continue
        test = _PARITY if not what else replace(_PARITY, quantity=_PARITY.quantity.replace("layer 0", what))
        margins = (PARITY,) if what else (PARITY, 0.1, 0.5)
        for margin in margins:
            words = what if margin == PARITY else f"margin {margin:g}"
            yield over_seeds(words, np.log(pairs.run), replace(test, threshold=margin), numbers)


_SINK = Test(
    "sink mass of the layer where it is largest / uniform attention, mean over seeds, Student interval",
    "below",
    SINK_FACTOR,
    "this is what a sink is (docs/science.md)",
    "a layer has a sink at position 0 still",
)
_DISPARITY = Test(
    "first token's dominance ratio, mean over layers, / the baseline's of the same seed, geometric mean over seeds, Student interval",
    "below",
    LOWER_DISPARITY,
    "the paper's is 0.41; a tenth less is the smallest effect of interest",
    "it is as large, or smaller by less than that",
)
_RANK = Test(
    "effective rank of the residual, mean over layers, / the baseline's of the same seed, geometric mean over seeds, Student interval",
    "above",
    HIGHER_RANK,
    "the paper's is 1.30; a twentieth more is the smallest effect of interest",
    "it is as low, or higher by less than that",
)
_PARITY = Test(
    "ln of the variance over sequences at position 0 / mean of the others, of what enters W_O in layer 0, mean over seeds",
    "within",
    PARITY,
    "parity is an equivalence: the variances differ by less than a factor of 1.28",
    "position 0 has more variance than the others still, or less",
)

SINK = TrainingClaim(
    "C13a",
    "head-wise RMSNorm has no sink",
    "with head-wise RMSNorm no layer has a sink at position 0, where softmax has one",
    "no sink against one from layer 5 on",
    _SINK,
    sink,
    scale="ratio",
    applicable_where=f"the baseline has a sink, above {SINK_FACTOR:g} times uniform attention with its whole interval over seeds",
    variant=VARIANT,
    reading="position 0 receives {value} times uniform attention in the layer where that is most",
    unit="{value} × uniform",
    brief="position 0 receives {value} × uniform attention",
)
DISPARITY_CLAIM = TrainingClaim(
    "C13b",
    "head-wise RMSNorm lowers the disparity",
    "with head-wise RMSNorm the first token's residual has a smaller dimension disparity, where softmax has one",
    "33.74 ± 2.73 against 82.67 ± 8.09",
    _DISPARITY,
    disparity,
    scale="ratio",
    applicable_where=f"the baseline's first token has a dominance ratio of {DISPARITY:g} times the others', with its whole interval over seeds",
    variant=VARIANT,
    reading="{value} times softmax's dimension disparity",
    unit="{value} × softmax's",
)
RANK = TrainingClaim(
    "C13c",
    "head-wise RMSNorm raises the rank",
    "with head-wise RMSNorm the residual stream has a higher effective rank, where position 0 lowers that of softmax",
    "445.96 ± 5.37 against 343.71 ± 15.63",
    _RANK,
    rank,
    scale="ratio",
    applicable_where=f"the baseline has {HIGHER_RANK:g} times as high a rank without position 0, with its whole interval over seeds",
    variant=VARIANT,
    reading="{value} times softmax's effective rank",
    unit="{value} × softmax's",
)
PARITY_CLAIM = TrainingClaim(
    "C13d",
    "head-wise RMSNorm evens the variance",
    "what enters the output projection has the same variance at position 0 as elsewhere with head-wise RMSNorm, where softmax has more",
    "restores statistical parity across positions",
    _PARITY,
    parity,
    applicable_where=f"the baseline's ln ratio exceeds {PARITY:g} with its whole interval over seeds, on prompts whose first token is drawn",
    variant=VARIANT,
    reading="ln {value} of the variance at position 0 over the others'",
    unit="ln {value}",
    brief="ln of position 0's variance over the others' {value}",
)
