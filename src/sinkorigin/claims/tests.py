"""What a claim's value is held against, and what its whole interval then says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sinkorigin.statistics.holm import holm

REPRODUCED, CONTRADICTED, UNDECIDED, NOT_APPLICABLE = "reproduced", "contradicted", "undecided", "not applicable"
SMALLEST_SHARE = 0.1  # of the sequences: the smallest effect of interest where an edit is compared with its control
ALPHA = 0.05  # two-sided level of a verdict, and of the family of primary tests of a model under one condition
SIDES = {"above": "> ", "below": "< ", "within": "within ±"}
_NORMAL = 1.959964  # quantile of the 95 % interval that standard errors are taken back from


@dataclass(frozen=True)
class Test:
    """A predicate that is written down before the run.

    Attributes:
        quantity: what the value is.
        side: whether the claim says that it lies above the threshold, below it, or within ± the threshold (equivalence).
        threshold: in the unit of the value.
        why: reason of the threshold.
        contradicted_by: what would contradict the claim, in words.
        level: the threshold in words, where each study's data give it; no settings are held against such a test itself.
    """

    quantity: str
    side: Literal["above", "below", "within"]
    threshold: float
    why: str
    contradicted_by: str
    level: str = ""

    def __post_init__(self):
        if not np.isfinite(self.threshold):
            raise ValueError(f"the test of {self.quantity} has the threshold {self.threshold}; give it a number")
        if not all((self.quantity, self.why, self.contradicted_by)):
            raise ValueError(
                f"the test of {self.quantity or 'nothing'} lacks its quantity, its reason or what contradicts it"
            )
        if self.side not in SIDES:
            raise ValueError(f"the test of {self.quantity} has the side {self.side}; known ones are {', '.join(SIDES)}")

    @property
    def words(self) -> str:
        """The predicate, "> 0.5"."""
        return f"{SIDES[self.side]}{self.level or format(self.threshold, '.4g')}"

    def verdict(self, low: float | None, high: float | None) -> str:
        """Verdict of an interval: reproduced if all of it satisfies the predicate, contradicted if all of it satisfies the opposite.

        An end that is missing or not finite decides nothing.
        """
        if low is None or high is None or not np.isfinite([low, high]).all():
            return UNDECIDED
        threshold = self.threshold
        holds, opposite = {
            "above": (low > threshold, high <= threshold),
            "below": (high < threshold, low >= threshold),
            "within": (-threshold < low and high < threshold, high <= -threshold or low >= threshold),
        }[self.side]
        return REPRODUCED if holds else CONTRADICTED if opposite else UNDECIDED

    def p(self, value: float, low: float, high: float) -> float:
        """Two-sided p-value of "the true value lies on the threshold", from the end of the interval that faces it.

        The distance to the threshold in standard errors of that side; 0 for an interval without width that lies off it. With two
        thresholds, the nearer one's.
        """
        from scipy.special import ndtr  # not above: most statistics need no scipy, and each job pays for imports

        edges = [-self.threshold, self.threshold] if self.side == "within" else [self.threshold]
        edge = min(edges, key=lambda place: abs(value - place))
        facing = value - low if value > edge else high - value
        error = (
            facing if facing > 0 else (high - low) / 2
        ) / _NORMAL  # of an interval that lies beside its value: half of it
        if not error > 0:
            return 0.0 if value != edge else 1.0
        return float(2 * ndtr(-abs(value - edge) / error))

    def more_needed(self, value: float, low: float, high: float, level: float = ALPHA) -> float | None:
        """How many times as many sequences would decide it at a two-sided level, if the value stayed: intervals shrink with their root.

        Returns:
            None where no number does: the value lies on the threshold.
        """
        from scipy.special import ndtri

        p = self.p(value, low, high)
        if p >= 1:
            return None
        return float((ndtri(level / 2) / ndtri(p / 2)) ** 2)


def decide(verdicts: Sequence[str], p_values: Sequence[float | None]) -> tuple[list[str], list[float | None]]:
    """Verdicts of a family of tests that hold together: what Holm's correction does not leave is undecided.

    Args:
        verdicts: of each interval alone.
        p_values: None for a test that is not applicable or has no p-value, which is then no member of the family.

    Returns:
        Verdicts, and adjusted p-values.
    """
    members = [number for number, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    for number, p in zip(members, holm([p for p in p_values if p is not None]), strict=True):
        adjusted[number] = p
    kept = [
        UNDECIDED if verdict in (REPRODUCED, CONTRADICTED) and p is not None and p >= ALPHA else verdict
        for verdict, p in zip(verdicts, adjusted, strict=True)
    ]
    return kept, adjusted
