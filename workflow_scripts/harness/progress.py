"""What a run tells of its jobs while it goes on: which one finished, how many have, and how long the others take.

The time that is left follows from the estimates of the jobs that are left (:mod:`harness.resources`), each scaled by how the
estimates of finished jobs compare with the time that these took: those of the same rule, else all.
"""

import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

Key = Hashable  # of a job: its number in the run


@dataclass(frozen=True)
class Step:
    """A job of a run.

    Attributes:
        rule: rule of the job.
        wildcards: which of its jobs.
        seconds: estimated time; None for a job of another workflow, which has no estimate.
        after: keys of the jobs of the same run that it waits for.
        shares: share of each resource that the run limits, such as its cores, that the job takes.
    """

    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    after: frozenset[Key] = frozenset()
    shares: Mapping[str, float] = field(default_factory=dict)


class Progress:
    """Which jobs of a run are done, and how long the others take. Jobs have keys; times are seconds of the same clock."""

    def __init__(self) -> None:
        self._steps: dict[Key, Step] = {}
        self._began: dict[Key, float] = {}
        self._took: dict[
            Key, float | None
        ] = {}  # of finished jobs; None where a job began unseen, as one in a group does
        self._given_up: set[Key] = set()

    def plan(self, steps: Mapping[Key, Step]) -> None:
        """Note all jobs of the run; again where there are more of them."""
        waits = {key: [other for other in step.after if other in steps] for key, step in steps.items()}
        self._steps = {key: steps[key] for key in TopologicalSorter(waits).static_order()}

    def knows(self, keys: Iterable[Key]) -> bool:
        """Whether these jobs are planned."""
        return self._steps.keys() >= set(keys)

    def start(self, keys: Iterable[Key], now: float) -> None:
        """Note that jobs start, perhaps once more."""
        self._began |= dict.fromkeys(keys, now)

    def give_up(self, failed: Iterable[Key]) -> None:
        """Note jobs that failed for good: neither they nor those that wait for them will finish."""
        if new := set(failed) - self._given_up:
            self._given_up |= new
            for key, step in self._steps.items():  # each stands behind those that it waits for
                if step.after & self._given_up:
                    self._given_up.add(key)

    def finish(self, key: Key, now: float) -> None:
        """Note that a job is done."""
        began = self._began.get(key)
        self._took[key] = None if began is None else now - began

    def line(self, key: Key, now: float) -> str:
        """A line on a job that is done: ``[ 37/268] 14:02:11  compute_sinks model=mine (41 s) – about 17 min left``."""
        step, total, took = self._steps[key], str(len(self._steps)), self._took[key]
        name = " ".join([step.rule, *(f"{name}={value}" for name, value in step.wildcards.items())])
        lasted = "" if took is None else f" ({duration(took)})"
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        return f"[{len(self._took):{len(total)}}/{total}] {clock}  {name}{lasted}{self._rest(' – ', now)}"

    def state(self, now: float) -> str:
        """How many jobs are done: ``37 of 268 jobs, about 17 min left``."""
        return f"{len(self._took)} of {len(self._steps)} jobs{self._rest(', ', now)}"

    def _rest(self, separator: str, now: float) -> str:
        left = self.left(now)
        return f"{separator}about {duration(left)} left" if round(left) else ""

    def left(self, now: float) -> float:
        """Seconds until the run ends: those of the longest chain of jobs, or of all that share a resource, if these are more."""
        scales, usual = self._scales(), self._usual()
        ends: dict[Key, float] = {}  # of each job that is left, as early as it can be
        loads: dict[str, float] = {}
        for key, step in self._steps.items():
            if key in self._took or key in self._given_up:
                continue
            seconds = (usual if step.seconds is None else step.seconds) * scales.get(step.rule, scales[""])
            if key in self._began:
                seconds = max(seconds - (now - self._began[key]), 0.0)
            ends[key] = seconds + max((ends[other] for other in step.after if other in ends), default=0.0)
            for resource, share in step.shares.items():
                loads[resource] = loads.get(resource, 0.0) + seconds * share
        return max([*ends.values(), *loads.values()], default=0.0)

    def _scales(self) -> dict[str, float]:
        """Rule → time that its finished jobs took over what was estimated; "" stands for all rules."""
        sums: dict[str, list[float]] = {}
        for key, took in self._took.items():
            step = self._steps[key]
            if took is not None and step.seconds:
                for rule in (step.rule, ""):
                    known = sums.setdefault(rule, [0.0, 0.0])
                    known[0] += took
                    known[1] += step.seconds
        return {"": 1.0} | {rule: took / estimated for rule, (took, estimated) in sums.items()}

    def _usual(self) -> float:
        """Estimated seconds of a job that has no estimate: as those that have one, on the average."""
        known = [step.seconds for step in self._steps.values() if step.seconds is not None]
        return sum(known) / len(known) if known else 0.0


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:,.1f} h"
