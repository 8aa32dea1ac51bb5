"""C12: head-wise RMSNorm trains faster, and ends lower."""

from collections.abc import Iterator
from dataclasses import replace

from sinkorigin.claims.claim import Setting, not_applicable
from sinkorigin.claims.run_pairs import TABLE, RunPair, TrainingClaim, difference, over_seeds
from sinkorigin.claims.tests import Test
from sinkorigin.statistics.binomial import exact_interval, two_sided_p

VARIANT = "headwise_rmsnorm"
SESOI = 0.01  # smallest effect of interest, nats per token
SESOI_REASON = (
    "a quarter of the 0.04 nats that the paper reports; losses differ by 0.001 between runs of the same code on other threads, and less is "
    "of no interest"
)
FEWEST_TOKENS = 0.95  # of the baseline's tokens


def reached(pair: RunPair, test: Test, what: str, level: float, *, otherwise: bool = False) -> Setting:
    """Share of the seeds that reach the baseline's last validation loss with at most so many times its tokens, exact binomial interval.

    Args:
        level: share of the tokens that the baseline of the same seed takes to its own last loss.
        otherwise: whether the share of the others is taken: of the seeds that do not.
    """
    ratios, of_baseline = pair.by_seed(pair.run, "token_ratio"), pair.by_seed(pair.baseline, "token_ratio")
    shared = {seed: ratio for seed, ratio in sorted(ratios.items()) if of_baseline.get(seed) is not None}
    if not shared:
        return not_applicable(what, "run and baseline share no seed", TABLE)
    count = sum((ratio is not None and ratio <= level) != otherwise for ratio in shared.values())
    low, high = exact_interval(count, len(shared))
    tokens = ", ".join("not reached" if ratio is None else f"{ratio:.3g}" for ratio in shared.values())
    reason = f"{count} of {len(shared)} seeds; tokens over the baseline's by seed: {tokens}; {pair.sink}"
    if exact_interval(len(shared), len(shared))[0] <= test.threshold:
        reason = f"no count of {len(shared)} seeds decides it, at least 6 do; {reason}"
    return Setting(
        what, count / len(shared), low, high, reason, (TABLE,), two_sided_p(count, len(shared), test.threshold), test
    )


def token_ratio(pair: RunPair, test: Test, what: str) -> Setting:
    """Tokens to the baseline's last validation loss over the baseline's own; not applicable where a seed does not reach it."""
    pairs = pair.pairs("token_ratio")
    missed = [seed for seed, ratio in pair.by_seed(pair.run, "token_ratio").items() if ratio is None]
    if missed:
        return not_applicable(what, f"not reached by seed {', '.join(map(str, sorted(missed)))}", TABLE)
    return over_seeds(what, pairs.run, test, pairs.text, log=True)


def faster(pair: RunPair) -> Iterator[Setting]:
    """The share of seeds that need fewer tokens, by other shares of the tokens, and the tokens themselves."""
    if pair.prompts is not None:
        return
    for level in (FEWEST_TOKENS, 1.0, 0.9, 0.8):
        what = "" if level == FEWEST_TOKENS else f"at most {level:g} of its tokens"
        test = replace(_FASTER, quantity=_quantity(level))
        yield reached(pair, test, what, level)
    ratio = replace(
        _FASTER, quantity="tokens to the baseline's last loss / the baseline's, geometric mean over seeds", side="below",
        threshold=FEWEST_TOKENS,
    )  # fmt: skip
    yield token_ratio(pair, ratio, "ratio of tokens")


def lower(pair: RunPair) -> Iterator[Setting]:
    """The last validation loss against the baseline's, by other effects of interest; the training loss; the mean over the training."""
    if pair.prompts is not None:
        return
    primary = difference("", "validation_loss", pair, _LOWER)
    yield primary
    if primary.applicable:
        for threshold in (0.0, -0.005, -0.02):
            test = replace(_LOWER, threshold=threshold)
            yield difference(f"threshold {threshold:g}", "validation_loss", pair, test)
    train = replace(_LOWER, quantity=_LOWER.quantity.replace("validation", "training"))
    yield difference("training loss", "train_loss", pair, train)
    over_training = replace(
        _LOWER,
        quantity="validation loss, mean over the rows of the history, − the baseline's, mean over seeds (nats per token)",
    )
    yield difference("mean over the training", "validation_loss_over_training", pair, over_training)


def _quantity(level: float) -> str:
    return (
        f"share of the seeds that reach the baseline's last validation loss with at most {level:g} of the tokens that the baseline takes to "
        "it, exact binomial interval"
    )


_FASTER = Test(
    _quantity(FEWEST_TOKENS),
    "above",
    0.5,
    "in most seeds, by a twentieth of the tokens: less lies within what the learning rate's grid leaves open",
    "half of the seeds or more need as many tokens, or never get there",
)
_LOWER = Test(
    "last validation loss − the baseline's of the same seed, mean over seeds (nats per token), Student interval",
    "below",
    -SESOI,
    SESOI_REASON,
    "it ends higher, or lower by less than that",
)

FASTER = TrainingClaim(
    "C12a",
    "head-wise RMSNorm trains faster",
    "head-wise RMSNorm reaches the last validation loss of softmax with fewer training tokens",
    "accelerates convergence",
    _FASTER,
    faster,
    variant=VARIANT,
    reading="{percent} of the seeds reach softmax's last loss with a twentieth fewer tokens",
    brief="in {percent} of the seeds",
)
LOWER = TrainingClaim(
    "C12b",
    "head-wise RMSNorm ends lower",
    "head-wise RMSNorm ends at a lower validation loss than softmax",
    "2.7421 ± 0.0066 against 2.7812 ± 0.0109; train loss 2.7073 ± 0.0095 against 2.7483 ± 0.0118",
    _LOWER,
    lower,
    variant=VARIANT,
    reading="ends {value} nats from softmax",
    unit="{value} nats",
    brief="{value} nats from softmax's loss",
)
