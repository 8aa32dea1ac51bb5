"""C5: a few super neurons, which fire for the first token alone, carry each surge of its norm that a sink follows."""

from collections.abc import Iterator, Mapping

from sinkorigin.claims.claim import Claim, Setting, not_applicable
from sinkorigin.claims.sinks import NO_SINK, followed, rises, sink_layers
from sinkorigin.claims.tests import Test
from sinkorigin.claims.verdicts import StudyTables

_TABLE = "super_neuron_surge"


def surges(tables: StudyTables) -> list[dict] | str | None:
    """Rows of the surge table of the layers where the norm surges and a sink follows; why there are none; None without the table."""
    table = tables.read(_TABLE)
    if table is None:
        return None
    if not sink_layers(tables):
        return NO_SINK
    layers = followed(rises(tables, "norm_changes"), rises(tables, "sink_changes"))
    if not layers:
        return "no rise of the first token's norm is followed by one of the sink mass"
    return [table.filter(layer=layer).to_dicts()[0] for layer in layers]


def by_surge(rows: list[dict], name: str) -> list[Setting] | str:
    """A quantity of the few neurons of each surge, 0 where there are none; or why it is not defined in one of them."""
    found = []
    for row in rows:
        if row["few"] == []:
            row = row | {name: 0.0, f"{name}_low": 0.0, f"{name}_high": 0.0}
        value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
        if value is None:
            return f"layer {row['layer']}: {row['not_applicable'] or 'it adds less than half of the norm'}"
        found.append(Setting(f"the surge in layer {row['layer']}", value, low, high, named(row), (_TABLE,)))
    return found


def named(row: Mapping) -> str:
    """The few neurons of a layer, "layer 2, neuron 90"."""
    few = ", ".join(map(str, row["few"] or []))
    return f"layer {row['layer']}, " + (
        f"neuron{'s' if len(row['few']) > 1 else ''} {few}" if few else "no super neuron"
    )


def settings(tables: StudyTables) -> Iterator[Setting]:
    """The surge of which the few super neurons carry least, and each surge by itself."""
    rows = surges(tables)
    if rows is None:
        return
    found = rows if isinstance(rows, str) else by_surge(rows, "few_surge")
    if isinstance(found, str):
        yield not_applicable("", found, _TABLE)
        return
    primary = CLAIM.of_least(found, "")
    yield primary
    yield from CLAIM.with_thresholds(primary, 0.25, 0.75)
    yield from found if len(found) > 1 else ()
    assert not isinstance(rows, str)
    for each in rows:
        if each["accounted"] is not None:
            yield Setting(
                f"its largest neuron alone, layer {each['layer']}", each["accounted"], each["accounted_low"], each["accounted_high"],
                f"neuron {each['largest']}", (_TABLE,),
            )  # fmt: skip


CLAIM = Claim(
    "C5",
    "super neurons carry the surge",
    "a few super neurons, which fire for the first token alone, carry each surge of its norm that a sink follows",
    "a few neurons, such as 7890",
    Test(
        "share of the surge that the layer's super neurons, at most three, write along the residual; the surge where it is smallest",
        "above",
        0.5,
        "more than half is most of it",
        "half of a surge or more comes from other neurons, or the layer has no super neuron",
    ),
    settings,
    reading="super neurons write {percent} of the surge",
    brief="{percent} of it",
)
