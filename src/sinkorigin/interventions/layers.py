"""The layers of an edit by rule: words of the config that name layers by what was measured of the model.

A rule is a function of the model's :class:`Structure`, and one line of ``RULES``. Nothing here imports more than Python has,
because the config reads the words.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sinkorigin.errors import NotApplicableError

# how tables call layers that no rule gives: the numbers of the config, or what a kind finds in a table of statistics
NUMBERS, FOUND = "numbers", "found"
# without a sink onset, this part of the layers counts as early: 4 of 30, where SmolLM2's sink begins at layer 3
FALLBACK = 8


@dataclass(frozen=True)
class Structure:
    """What the rules read of a model on a prompt set.

    Attributes:
        layers: their number L.
        onset: first layer with a sink; None where no layer has one.
        surges: change points of the norm ratio that are rises, rising.
    """

    layers: int
    onset: int | None = None
    surges: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """The layers of a rule in one model, and a sentence on how they were found."""

    layers: list[int]
    how: str


@dataclass(frozen=True)
class Rule:
    """A word for layers.

    Attributes:
        find: the layers in a model; it raises a NotApplicableError where there are none.
        description: what the word stands for.
        tables: statistics that it reads.
        place: "early" for the layers in which the paper's edits stand, "later" for others to hold these against.
    """

    find: Callable[[Structure], Found]
    description: str
    tables: tuple[str, ...] = ()
    place: Literal["early", "later"] | None = None


def until_onset(model: Structure) -> Found:
    """Layers 0 … the sink onset; without an onset the first eighth."""
    if model.onset is not None:
        return Found(list(range(model.onset + 1)), f"sink onset at layer {model.onset}")
    count = max(1, round(model.layers / FALLBACK))
    return Found(list(range(count)), f"no sink onset: the first eighth of the {model.layers} layers")


def surges(model: Structure) -> Found:
    """Layers at which the first token's norm rises against the others'."""
    if not model.surges:
        raise NotApplicableError("the first token's norm rises in no layer")
    named = f"layer{'s' if len(model.surges) > 1 else ''} {', '.join(map(str, model.surges))}"
    return Found(list(model.surges), f"norm surges at {named}")


def middle(model: Structure) -> Found:
    """The layers from a third of the depth on, as many as :func:`until_onset` has."""
    return _as_many(model, model.layers // 3, "a third")


def late(model: Structure) -> Found:
    """The layers from two thirds of the depth on, as many as :func:`until_onset` has."""
    return _as_many(model, 2 * model.layers // 3, "two thirds")


def _as_many(model: Structure, start: int, share: str) -> Found:
    early = until_onset(model)
    end = start + len(early.layers) - 1
    if start <= early.layers[-1]:
        raise NotApplicableError(
            f"the model has too few layers: {share} of its depth is layer {start}, but until_onset ends at layer "
            f"{early.layers[-1]}"
        )
    if end >= model.layers:
        raise NotApplicableError(
            f"the model has too few layers: as many as until_onset, from layer {start} on, would end at layer {end} of "
            f"{model.layers}"
        )
    return Found(list(range(start, end + 1)), f"from {share} of the depth on, as many as until_onset: {early.how}")


def first(model: Structure) -> Found:
    """Layer 0."""
    return Found([0], "the first layer")


def every(model: Structure) -> Found:
    """All layers."""
    return Found(list(range(model.layers)), "all layers")


RULES = {
    "until_onset": Rule(
        until_onset,
        "layers 0 to the sink onset; without an onset the first eighth of the layers",
        ("sink_onset",),
        "early",
    ),
    "surges": Rule(surges, "the layers at which the first token's norm surges", ("norm_changes",)),
    "first": Rule(first, "layer 0"),
    "middle": Rule(middle, "as many as until_onset, from a third of the depth on", ("sink_onset",), "later"),
    "late": Rule(late, "as many as until_onset, from two thirds of the depth on", ("sink_onset",), "later"),
    "all": Rule(every, "every layer"),
}


def layers_of(wanted: str | Sequence[int], model: Structure) -> Found:
    """Layers by rule or as numbers.

    Raises:
        NotApplicableError: the model has no such layers.
    """
    if isinstance(wanted, str):
        return RULES[wanted].find(model)
    if max(wanted) >= model.layers:
        raise NotApplicableError(f"layer {max(wanted)} of a model of {model.layers} layers")
    return Found(sorted(set(wanted)), "numbers of the config")


def main_layers(edits: Iterable[tuple[str | None, Sequence[int]]]) -> list[int]:
    """Layers of the main one among edits of a kind, (rule, layers) each.

    That is the one of an early rule; else, of those that begin earliest, the one that goes on longest.
    """
    edits = list(edits)
    by_rule = [layers for rule, layers in edits if _place(rule) == "early"]
    if by_rule:
        return list(by_rule[0])
    numbers = [layers for rule, layers in edits if rule not in RULES] or [layers for _, layers in edits]
    return min(sorted(map(list, numbers)), key=lambda layers: (layers[0], -layers[-1]))


def is_later(rule: str | None, layers: Sequence[int], others: Sequence[int]) -> bool:
    """Whether an edit stands above other layers, to be held against the edit there: by numbers, or by a rule for that."""
    return layers[0] > others[-1] and (rule not in RULES or _place(rule) == "later")


def _place(rule: str | None) -> str | None:
    return RULES[rule].place if rule in RULES else None
