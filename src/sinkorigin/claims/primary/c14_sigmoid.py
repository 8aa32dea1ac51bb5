"""C14: sigmoid attention removes the sink too, and trains worse."""

from collections.abc import Iterator
from dataclasses import replace

from sinkorigin.claims.claim import Setting
from sinkorigin.claims.primary.c12_trains_faster import SESOI, SESOI_REASON, reached
from sinkorigin.claims.run_pairs import RunPair, TrainingClaim, difference, sink_removed
from sinkorigin.claims.tests import Test
from sinkorigin.statistics.uniform import SINK_FACTOR

VARIANT = "sigmoid"


def sink(pair: RunPair) -> Iterator[Setting]:
    """Attention on position 0, as it is and with rows that sum to one."""
    return sink_removed(pair, _SINK)


def worse(pair: RunPair) -> Iterator[Setting]:
    """The last validation loss against the baseline's, by other effects of interest; the training loss; tokens."""
    if pair.prompts is not None:
        return
    primary = difference("", "validation_loss", pair, _WORSE)
    yield primary
    if primary.applicable:
        for threshold in (0.0, 0.005, 0.02):
            yield difference(f"threshold {threshold:g}", "validation_loss", pair, replace(_WORSE, threshold=threshold))
    train = replace(_WORSE, quantity=_WORSE.quantity.replace("validation", "training"))
    yield difference("training loss", "train_loss", pair, train)
    over_training = replace(
        _WORSE,
        quantity="validation loss, mean over the rows of the history, − the baseline's, mean over seeds (nats per token)",
    )
    yield difference("mean over the training", "validation_loss_over_training", pair, over_training)
    slower = replace(
        _WORSE,
        quantity="share of the seeds that do not reach the baseline's last validation loss with the tokens that the baseline takes to it, "
        "exact binomial interval",
        threshold=0.5,
        why="in most seeds",
    )
    yield reached(pair, slower, "tokens", 1.0, otherwise=True)


_SINK = Test(
    "sink mass of the layer where it is largest / uniform attention, rows as they are, mean over seeds, Student interval",
    "below",
    SINK_FACTOR,
    "this is what a sink is (docs/science.md); rows do not sum to one, and with rows that do is a setting",
    "a layer has a sink at position 0 still",
)
_WORSE = Test(
    "last validation loss − the baseline's of the same seed, mean over seeds (nats per token), Student interval",
    "above",
    SESOI,
    SESOI_REASON,
    "it ends lower, or higher by less than that",
)

SINK = TrainingClaim(
    "C14a",
    "sigmoid attention has no sink",
    "with sigmoid attention no layer has a sink at position 0, where softmax has one",
    "no sink",
    _SINK,
    sink,
    scale="ratio",
    applicable_where=f"the baseline has a sink, above {SINK_FACTOR:g} times uniform attention with its whole interval over seeds",
    variant=VARIANT,
    reading="position 0 receives {value} times uniform attention in the layer where that is most",
    unit="{value} × uniform",
    brief="position 0 receives {value} × uniform attention",
)
WORSE = TrainingClaim(
    "C14b",
    "sigmoid attention trains worse",
    "sigmoid attention ends at a higher validation loss than softmax",
    "trains more slowly and ends worse",
    _WORSE,
    worse,
    variant=VARIANT,
    reading="ends {value} nats from softmax",
    unit="{value} nats",
    brief="{value} nats from softmax's loss",
)
