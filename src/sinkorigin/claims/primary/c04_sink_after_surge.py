"""C4: the first token's norm surges, and the sink begins there."""

from collections.abc import Iterator
from dataclasses import replace

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.sinks import FOLLOWS, NO_SINK, rises, sink_layers
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables
from sinkorigin.statistics.binomial import exact_interval, two_sided_p

_TABLES = ("norm_changes", "sink_changes")


def settings(tables: StudyTables) -> Iterator[Setting]:
    """How many rises of the sink mass begin at a rise of the norm, against chance; with other distances between the two."""
    mass = tables.read("sink_mass")
    if mass is None or any(tables.read(name) is None for name in _TABLES):
        return
    if not sink_layers(tables):
        yield not_applicable("", NO_SINK, *_TABLES)
        return
    norm, sink = rises(tables, "norm_changes"), rises(tables, "sink_changes")
    if not sink:
        yield not_applicable("", "the sink mass rises by its threshold in no layer", *_TABLES)
        return
    for what, distance in (("", FOLLOWS), ("in the same layer", 0), ("within 2 layers", 2)):
        near = {layer + step for layer in norm for step in range(distance + 1)} & set(mass["layer"].to_list())
        chance = len(near) / len(mass)
        if chance == 1:
            yield not_applicable(
                what, "every layer lies that near to a rise of the norm, so chance would give all of them", *_TABLES
            )
            continue
        hits = sum(layer in near for layer in sink)
        low, high = exact_interval(hits, len(sink))
        reason = (
            f"the norm rises at layer {_listed(norm)}, the sink mass at {_listed(sink)}; {len(near)} of {len(mass)} layers lie that near "
            "to a rise of the norm"
        )
        p = two_sided_p(hits, len(sink), chance)
        test = replace(CLAIM.test, threshold=chance, level="")
        yield Setting(what, hits / len(sink), low, high, reason, _TABLES, p, test)


def _listed(layers: list[int]) -> str:
    return ", ".join(map(str, layers)) or "none"


CLAIM = Claim(
    "C4",
    "sink begins at the norm surge",
    "the sink begins where the first token's norm surges: the rises of the sink mass lie at rises of the norm or one layer above",
    "both at layer 2",
    Test(
        "share of the sink mass' rises that begin within one layer after a rise of the first token's norm (exact binomial interval)",
        "above",
        0.0,
        "chance gives the share of the layers that lie within one layer after a rise of the norm; a model with "
        "few rises cannot tell the two apart",
        "rises of the sink mass lie away from those of the norm more often than by chance",
        level="chance",
    ),
    settings,
    decided_by="models",
    reading="{percent} of the rises of the sink follow a rise of the norm",
    brief="{percent} of the rises of its mass follow one of the norm",
)
