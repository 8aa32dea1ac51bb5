"""What a primary claim declares: one test, written down before the run, and the other settings in which it is tried."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sinkorigin.claims.tests import ALPHA, CONTRADICTED, NOT_APPLICABLE, REPRODUCED, SIDES, UNDECIDED, Test


@dataclass(frozen=True)
class Setting:
    """One way in which a claim is tested on one prompt set.

    Attributes:
        what: how it differs from the primary test; "" for that test.
        value, low, high: the value and its 95 % interval; None where it is not applicable.
        reason: numbers behind the value, or why there is none.
        tables: names of the tables that it was read from.
        p: two-sided p-value, where the test has another one than that of the interval: an exact one, or of several conditions that must
            all hold. A verdict needs both it and the interval.
        test: another test than the claim's, such as one with another threshold.
    """

    what: str
    value: float | None
    low: float | None
    high: float | None
    reason: str | None
    tables: tuple[str, ...]
    p: float | None = None
    test: Test | None = None

    @property
    def applicable(self) -> bool:
        """Whether there is a value."""
        return self.value is not None


_MOST_TIMES = 100  # so many more sequences are as good as none


def not_applicable(what: str, reason: str, *tables: str) -> Setting:
    """A setting without a value."""
    return Setting(what, None, None, None, reason, tables)


def _digits(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %".replace("-", "−")


@dataclass(frozen=True)
class Claim:
    """A primary claim of the paper, or of this project.

    Attributes:
        code: C1, C2, ….
        words: what is claimed, as short as a row of a matrix needs.
        statement: in a sentence.
        paper: what the paper reports; None for a claim that it does not make.
        test: what decides.
        settings: the tests of one model on one prompt set (``StudyTables``), or of a run against its baseline (``RunPair``), the
            primary one first; nothing where the study does not measure it.
        in_random_weights: whether the claim is about random weights too.
        scale: how its values are averaged over models: as they are, or, of ratios, as logarithms.
        decided_by: of what there must be more to decide it where it is undecided.
        applicable_where: what a model or a run must have for it, beyond a sink at position 0, with the numbers; "" for nothing.
        reading: what a value says, with ``{value}``, ``{percent}`` or, of a difference of shares, ``{points}`` in its place.
        brief: the value with its unit and what it is compared with, likewise, where several claims stand in one sentence after their words;
            by default as ``unit``.
        unit: the value with its unit, where there is room for no more; by default the number alone.
    """

    code: str
    words: str
    statement: str
    paper: str | None
    test: Test
    settings: Callable[[Any], Iterator[Setting]]
    in_random_weights: bool = False
    scale: Literal["difference", "ratio"] = "difference"
    decided_by: Literal["sequences", "seeds", "models"] = "sequences"
    applicable_where: str = ""
    reading: str = ""
    brief: str = ""
    unit: str = ""

    def read(self, value: float, highest: float | None = None) -> str:
        """What a value says, or a range of values: "super neurons write 96 to 99 % of the surge"."""
        return self._filled(self.reading, value, highest)

    def told(self, value: float, highest: float | None = None) -> str:
        """A value, or a range of values, with its unit and what it is compared with: "in 96 to 99 % of the sequences"."""
        return self._filled(self.brief, value, highest) if self.brief else self.amount(value, highest)

    def told_of(self, amount: str) -> str:
        """An amount in words, such as the threshold of a test, in the sentence of a value: "in > 50 % of the sequences"."""
        return (self.brief or self.unit or self._number).format(
            value=amount, percent=amount, points=amount.removesuffix(" %")
        )

    def amount(self, value: float, highest: float | None = None) -> str:
        """A value, or a range of values, as short as a cell needs: "96 to 99 %"."""
        return self._filled(self.unit or self._number, value, highest)

    def numbers(self, value: float, highest: float | None = None) -> str:
        """A value, or a range of values, without a unit but a percent sign."""
        return self._filled(self._number, value, highest)

    @property
    def _number(self) -> str:
        return "{percent}" if "{percent}" in self.reading else "{value}"

    @staticmethod
    def _filled(text: str, value: float, highest: float | None) -> str:
        ends = [end for end in (value, highest) if end is not None]
        digits, percent = (" to ".join(dict.fromkeys(map(write, ends))) for write in (_digits, _percent))
        percent = percent.replace(" % to", " to")
        return text.format(value=digits, percent=percent, points=percent.removesuffix(" %"))

    def expected(self, threshold: float) -> str:
        """The predicate in the unit of the reading: "> 50 %"."""
        return SIDES[self.test.side] + (_percent if "{percent}" in self.reading else _digits)(threshold)

    def with_thresholds(self, setting: Setting, *thresholds: float) -> Iterator[Setting]:
        """A setting held against other thresholds, by its interval alone: a p-value of its own belongs to one threshold."""
        for threshold in thresholds:
            test = replace(setting.test or self.test, threshold=threshold)
            what = ", ".join(filter(None, [setting.what, f"threshold {threshold:g}"]))
            yield replace(setting, what=what, test=test, p=None)

    def verdict(self, setting: Setting) -> str:
        """Verdict of a setting alone."""
        if not setting.applicable:
            return NOT_APPLICABLE
        if setting.p is not None and setting.p >= ALPHA:
            return UNDECIDED
        return (setting.test or self.test).verdict(setting.low, setting.high)

    def p(self, setting: Setting) -> float | None:
        """p-value of an applicable setting: its own, or else that of its interval."""
        if setting.p is not None or None in (setting.value, setting.low, setting.high):
            return setting.p
        return (setting.test or self.test).p(setting.value, setting.low, setting.high)

    def undecided_because(self, setting: Setting, level: float) -> str | None:
        """What would decide a setting that is undecided at a level; None where its reason says it, or where no interval is known."""
        if None in (setting.value, setting.low, setting.high) or "decide" in (setting.reason or ""):
            return None
        if self.decided_by == "models":
            return "more sequences would not decide it, other models may"
        test = setting.test or self.test
        assert setting.value is not None and setting.low is not None and setting.high is not None
        times = test.more_needed(setting.value, setting.low, setting.high, level)
        if times is None or times > _MOST_TIMES:
            return f"more than {_MOST_TIMES} times as many {self.decided_by} would be needed to decide it"
        if times <= 1:  # its p-value, not its interval, leaves it open
            return None
        return f"some {times:.1f} times as many {self.decided_by} like these would decide it"

    def of_least(self, parts: Sequence[Setting], what: str) -> Setting:
        """The setting of a claim that a value lies above a threshold in each of several parts: of the smallest one.

        All intervals must lie above the threshold, which the lowest lower end says without correction for their number
        (intersection-union test, Berger 1982); one interval below it contradicts, so the p-value of that is corrected for their number.
        """
        assert self.test.side == "above"
        least = min(parts, key=lambda part: part.value)
        low, high = min(part.low for part in parts), min(part.high for part in parts)
        p_values = [self.p(part) for part in parts]
        verdict = self.test.verdict(low, high)
        p = (
            max(p_values)
            if verdict == REPRODUCED
            else min(1.0, len(parts) * min(p_values))
            if verdict == CONTRADICTED
            else None
        )
        return replace(least, what=what, low=low, high=high, p=p)
