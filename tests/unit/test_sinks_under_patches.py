"""Which patched passes have a sink at the target and at position 0, and of which edits nothing is shared out."""

import numpy as np
import pyarrow as pa
import pytest

from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.mediation import PASSES_SCHEMA, compute
from sinkorigin.statistics.uniform import SINK_FACTOR, uniform_score
from sinkorigin.tables import write_table

N, T, TARGET = 12, 32, 5


def followed(tmp_path, change: float) -> list[dict]:
    """Rows of one edit that changes every score by about so much, and of one link that carries half of it."""
    rng = np.random.default_rng(0)
    unedited = 0.1 + 0.01 * rng.standard_normal(N)
    effect = change + 0.02 * rng.standard_normal(N)
    # position 0 is a sink in so many sequences as their number is even
    first = np.where(np.arange(N) % 2, 0.9, 1.1) * SINK_FACTOR * uniform_score(0, T)
    passes = {("none", None): unedited, ("all", None): unedited + effect, ("restored", "key"): unedited + effect / 2}
    rows = [
        {
            "cause": "mask", "kind": "mask", "strength": 1.0, "layers": [0], "target": TARGET, "mediator": mediator,
            "mediator_layers": [1], "direction": direction, "control_of": None, "sequence": n,
            "score": score, "first_score": first[n], "second_score": 0.0,
        }
        for (direction, mediator), scores in passes.items()
        for n, score in enumerate(scores)
    ]  # fmt: skip
    path = tmp_path / "mechanism.parquet"
    write_table(path, pa.Table.from_pylist(rows, schema=PASSES_SCHEMA), PASSES_SCHEMA)
    found = compute({"passes": str(path)}, model="m", prompts="p", length=T, resampling=Resampling(500, 0))
    return found["mediation"].to_pylist()


def test_sinks_are_counted_at_the_target_and_at_position_0_each_by_its_own_uniform_score(tmp_path):
    assert SINK_FACTOR * uniform_score(0, T) != pytest.approx(SINK_FACTOR * uniform_score(TARGET, T))
    none, edited, restored = followed(tmp_path, 0.3)
    assert [row["first_sinks"] for row in (none, edited, restored)] == [N // 2] * 3
    assert (none["sinks"], edited["sinks"]) == (0, N)
    assert restored["share"] == pytest.approx(0.5) and restored["not_applicable"] is None


@pytest.mark.parametrize(
    ("change", "reason"), [(-0.1, "lowers the score of its target"), (0.0, "not distinguished from none")]
)
def test_an_edit_that_makes_no_sink_has_no_shares(tmp_path, change, reason):
    restored = followed(tmp_path, change)[2]
    assert restored["share"] is None and reason in restored["not_applicable"]
