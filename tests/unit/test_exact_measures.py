"""Tables of the model's measures equal their definitions on small made-up tables, written out with loops over sequences and heads."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError
from sinkorigin.statistics import (
    disparity,
    first_positions,
    matrix_entropy,
    mediation,
    norms,
    secondary_sinks,
    sinks,
    super_neurons,
    super_weight,
    value_drain,
    variance,
)
from sinkorigin.statistics.binomial import exact_interval, paired_shares
from sinkorigin.statistics.bootstrap import Resampling, ratio_interval, simultaneous_widths, studentised_interval
from sinkorigin.statistics.layer_permutations import layer_orders
from sinkorigin.statistics.rank_correlation import permuted_p, spearman
from sinkorigin.statistics.uniform import FACTORS, uniform_score

NAMES = {"model": "m", "prompts": "p"}
RESAMPLING = Resampling(30, 2)
N, H, T = 8, 2, 6


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def close(value):
    return None if value is None or np.isnan(value) else pytest.approx(float(value), rel=1e-9, abs=1e-12)


def with_ends(name, values, read=lambda mean: mean):
    """Columns of a function of means over sequences, with the percentiles of its replicates."""
    values = np.asarray(values, dtype=np.float64)
    samples = [read(w @ values) for w in RESAMPLING.weights(len(values))]
    low, high = np.percentile(samples, [2.5, 97.5])
    return {name: close(read(values.mean(axis=0))), f"{name}_low": close(low), f"{name}_high": close(high)}


def write(path, rows):
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    return str(path)


def rows_of(found):
    return {name: table.to_pylist() for name, table in found.items()}


def grid(**arrays):
    """Rows of a long table: one a point of (N, T) arrays."""
    return [
        {"sequence": n, "position": t, **{name: array[n, t] for name, array in arrays.items()}}
        for n in range(N)
        for t in range(T)
    ]


# ---- residual magnitudes


def magnitudes(path, layers, sites=("residual",)):
    rows = [
        {"site": site, "layer": layer, "width": 16} | row
        for site in sites
        for layer, arrays in layers.items()
        for row in grid(**arrays)
    ]
    return {"magnitudes": write(path, rows)}


def test_disparity_and_massive_activations_by_position_and_layer(tmp_path, rng):
    layers = {
        layer: {
            "mean_abs": rng.uniform(1, 2, (N, T)), "max_abs": rng.uniform(50, 400, (N, T)), "max_dim": rng.integers(0, 3, (N, T)),
            "hidden_median": np.where(rng.random((N, T)) < 0.3, np.nan, rng.uniform(0.05, 0.3, (N, T))),
        }
        for layer in (-1, 0, 1)
    }  # fmt: skip
    found = rows_of(disparity.compute(magnitudes(tmp_path / "m.parquet", layers), **NAMES, resampling=RESAMPLING))
    assert [(row["layer"], row["position"]) for row in found["disparity"]] == [
        (layer, t) for layer in layers for t in range(T)
    ]
    for row, massive in zip(found["disparity"], found["massive_activations"], strict=True):
        arrays, t = layers[row["layer"]], row["position"]
        largest, dims, median = (arrays[name][:, t] for name in ("max_abs", "max_dim", "hidden_median"))
        ratio = largest / arrays["mean_abs"][:, t]
        counts = np.bincount(dims)
        expected = NAMES | {"site": "residual", "width": 16, **with_ends("dominance_ratio", ratio)}
        expected |= {
            "relative": close(ratio.mean() / 16),
            "dominant_dim": int(counts.argmax()),
            "dominant_share": counts.max() / N,
        }
        assert {name: row[name] for name in expected} == expected
        is_massive = [bool(x > 100 and not np.isnan(m) and x >= 1000 * m) for x, m in zip(largest, median, strict=True)]
        over = [x / m for x, m in zip(largest, median, strict=True) if not np.isnan(m)]
        among = np.bincount(dims[is_massive]) if any(is_massive) else None
        expected = NAMES | {
            "site": "residual",
            "layer": row["layer"],
            "position": t,
            **with_ends("share", is_massive),
            "max_abs": close(largest.mean()),
        }
        expected |= {
            "max_over_median": close(np.mean(over)) if over else None,
            "dim": None if among is None else int(among.argmax()),
        }
        assert {name: massive[name] for name in expected} == expected
    for row in found["disparity_by_layer"]:
        ratio = layers[row["layer"]]["max_abs"] / layers[row["layer"]]["mean_abs"]
        expected = (
            NAMES
            | {"site": "residual", "width": 16}
            | with_ends("first", ratio[:, 0])
            | with_ends("rest", ratio[:, 1:].mean(axis=1))
        )
        assert {name: row[name] for name in expected} == expected
    both = rows_of(
        disparity.compute(
            magnitudes(tmp_path / "b.parquet", {0: layers[0]}, ("attention_input", "residual")),
            **NAMES,
            resampling=RESAMPLING,
        )
    )
    assert [row["site"] for row in both["disparity_by_layer"]] == ["residual", "attention_input"] and len(
        both["massive_activations"]
    ) == T
    inputs = magnitudes(tmp_path / "n.parquet", {0: layers[0]}, ("ffn_output",))
    with pytest.raises(SinkoriginError) as error:
        disparity.compute(inputs, **NAMES, resampling=RESAMPLING)
    assert (
        str(error.value)
        == f"{inputs['magnitudes']} has none of the sites residual, attention_input; add one to the sites to extract"
    )


def test_norms_and_their_ratio_surge_and_changes(tmp_path, rng):
    scale = {-1: 1.0, 0: 2.0, 1: 30.0, 2: 4.0}
    layers = {
        layer: {"norm": rng.uniform(1, 1.5, (N, T)) * np.array([factor, *[1.0] * (T - 1)])}
        for layer, factor in scale.items()
    }
    found = rows_of(
        norms.compute(
            magnitudes(tmp_path / "m.parquet", layers),
            **NAMES,
            surge_ratio=3.0,
            change_factor=5.0,
            resampling=RESAMPLING,
        )
    )
    for row in found["norms"]:
        expected = NAMES | {"site": "residual"} | with_ends("norm", layers[row["layer"]]["norm"][:, row["position"]])
        assert {name: row[name] for name in expected} == expected
    assert len(found["norms"]) == 4 * T
    for row in found["norm_ratio"]:
        norm = layers[row["layer"]]["norm"]
        expected = (
            NAMES | {"site": "residual"} | with_ends("first", norm[:, 0]) | with_ends("rest", norm[:, 1:].mean(axis=1))
        )
        expected |= with_ends("ratio", norm, lambda mean: mean[0] / mean[1:].mean())
        assert {name: row[name] for name in expected} == expected
    [surge] = found["norm_surge"]
    assert surge == NAMES | {"site": "residual", "threshold": 3.0, "layer": 1, "layer_low": 1, "layer_high": 1}
    rise, fall = found["norm_changes"]
    ratios = [layers[layer]["norm"].mean(axis=0) for layer in scale]
    ratios = [mean[0] / mean[1:].mean() for mean in ratios]
    facts = {"quantity": "norm ratio", "scale": "factor", "threshold": 5.0}
    assert {name: rise[name] for name in facts} == facts and (
        rise["kind"],
        rise["start"],
        rise["layer"],
        rise["end"],
    ) == ("rise", -1, 1, 1)
    assert (fall["kind"], fall["start"], fall["layer"], fall["end"]) == ("fall", 1, 2, 2)
    assert (
        rise["before"] == close(ratios[0])
        and rise["after"] == close(ratios[2])
        and rise["change"] == close(ratios[2] / ratios[0])
    )
    one = {0: {"norm": rng.uniform(1, 2, (N, T))[:, :1].repeat(T, axis=1)}}
    alone = norms.compute(
        magnitudes(tmp_path / "o.parquet", one), **NAMES, surge_ratio=3.0, change_factor=5.0, resampling=RESAMPLING
    )
    assert alone["norm_surge"].to_pylist()[0]["layer"] is None and alone["norm_changes"].num_rows == 0


def test_the_surge_is_that_of_all_sequences_and_not_of_a_replicate(tmp_path):
    norm = np.ones((N, T))
    norm[np.asarray(RESAMPLING.weights(N))[0].argmin(), 0] = 40.0  # of a sequence that the first replicate lacks
    inputs = magnitudes(tmp_path / "m.parquet", {0: {"norm": norm}})
    [surge] = norms.compute(inputs, **NAMES, surge_ratio=3.0, change_factor=5.0, resampling=RESAMPLING)[
        "norm_surge"
    ].to_pylist()
    assert (surge["layer"], surge["layer_low"], surge["layer_high"]) == (0, 0, 1)


# ---- scores


def scores_table(path, layers, *forms):
    """Scores by layer → {column: (N, H, T)}."""
    rows = [
        {"layer": layer, "sequence": n, "head": h, "position": t, **{name: array[n, h, t] for name, array in arrays.items()}}
        for layer, arrays in layers.items() for n in range(N) for h in range(H) for t in range(T)
    ]  # fmt: skip
    return write(path, rows)


def test_first_positions_have_masses_shares_and_ratios(tmp_path, rng):
    layers = {layer: {"score_excluding_self": rng.uniform(0, 0.9, (N, H, T))} for layer in (0, 1, 2)}
    inputs = {"scores": scores_table(tmp_path / "s.parquet", layers)}
    found = rows_of(first_positions.compute(inputs, **NAMES, length=T, first_token="bos", resampling=RESAMPLING))
    assert [(row["layer"], row["position"]) for row in found["first_positions"]] == [
        (layer, k) for layer in layers for k in range(4)
    ]
    for row in found["first_positions"]:
        expected = NAMES | {"first_token": "bos", "uniform": close(uniform_score(row["position"], T))}
        expected |= with_ends("mass", layers[row["layer"]]["score_excluding_self"][:, :, row["position"]].mean(axis=1))
        assert {name: row[name] for name in expected} == expected
    mean = np.mean([arrays["score_excluding_self"].mean(axis=1) for arrays in layers.values()], axis=0)
    assert [(row["position"], row["factor"]) for row in found["first_position_sinks"]] == [
        (k, factor) for k in range(4) for factor in FACTORS
    ]
    for row in found["first_position_sinks"]:
        k, uniform = row["position"], uniform_score(row["position"], T)
        count = int((mean[:, k] > row["factor"] * uniform).sum())
        expected = NAMES | {
            "first_token": "bos",
            "sequences": N,
            "sinks": count,
            "share": count / N,
            "uniform": close(uniform),
        }
        expected |= dict(zip(("share_low", "share_high"), map(close, exact_interval(count, N)), strict=True))
        expected |= with_ends("ratio", mean[:, k] / uniform)
        assert {name: row[name] for name in expected} == expected
    assert {row["sinks"] for row in found["first_position_sinks"]} > {0}


def test_sinks_have_means_masses_rates_onset_and_changes(tmp_path, rng):
    layers = {}
    for layer, height in enumerate((0.1, 0.8, 0.7)):
        base = rng.uniform(0.5, 1.0, (N, H, T)) * height
        layers[layer] = {
            "score": base, "score_excluding_self": base**2, "score_normalised": np.full_like(base, np.nan) if layer == 1 else base / 2,
            "score_excluding_self_normalised": np.full_like(base, np.nan) if layer == 1 else base**2 / 2,
        }  # fmt: skip
    inputs = {"scores": scores_table(tmp_path / "s.parquet", layers)}
    options = {"length": T, "epsilons": [0.2, 0.5], "onset_mass": 0.2, "change_mass": 0.15, "resampling": RESAMPLING}
    found = rows_of(sinks.compute(inputs, **NAMES, **options))

    def form(layer, name, normalised):
        arrays = layers[layer]
        return arrays[f"{name}_normalised"] if normalised and layer != 1 else arrays[name]

    assert [(row["layer"], row["head"], row["position"]) for row in found["sinks"]] == [
        (la, h, t) for la in layers for h in range(H) for t in range(T)
    ]
    for row in found["sinks"]:
        expected = dict(NAMES)
        for end in ("", "_normalised"):
            values = [
                form(row["layer"], name, end)[:, row["head"], row["position"]]
                for name in ("score", "score_excluding_self")
            ]
            expected |= {f"score{end}": close(values[0].mean())} | with_ends(f"score_excluding_self{end}", values[1])
        assert {name: row[name] for name in expected} == expected
    for row in found["sink_mass"]:
        expected = NAMES | {"uniform": close(uniform_score(0, T))}
        for end in ("", "_normalised"):
            expected |= with_ends(f"mass{end}", form(row["layer"], "score_excluding_self", end)[:, :, 0].mean(axis=1))
        assert {name: row[name] for name in expected} == expected
    assert [(row["epsilon"], row["position"]) for row in found["sink_rate"]] == [
        (epsilon, t) for epsilon in (0.2, 0.5) for t in range(T)
    ]
    for row in found["sink_rate"]:
        for end in ("", "_normalised"):
            above = np.mean(
                [
                    form(layer, "score", end)[:, h, row["position"]] > row["epsilon"]
                    for layer in layers
                    for h in range(H)
                ],
                axis=0,
            )
            expected = with_ends(f"rate{end}", above)
            assert {name: row[name] for name in expected} == expected
    [onset] = found["sink_onset"]
    assert onset == NAMES | {"threshold": 0.2, "layer": 1, "layer_low": 1, "layer_high": 1}
    [change] = found["sink_changes"]
    assert (change["kind"], change["layer"], change["quantity"], change["scale"]) == (
        "rise",
        1,
        "sink mass",
        "difference",
    )


def test_secondary_sinks_are_counted_by_token_and_by_layer(tmp_path, rng):
    words = np.array([[f"t{number}" for number in row] for row in rng.integers(0, 3, (N, T))])
    layers = {layer: {"score_excluding_self": rng.choice([0.01, 0.9], (N, H, T), p=[0.8, 0.2])} for layer in (0, 1, 3)}
    sizes = {
        layer: {"max_abs": rng.choice([50.0, 500.0], (N, T)), "hidden_median": rng.choice([0.1, 0.9, np.nan], (N, T))}
        for layer in (-1, 0)
    }
    prompts = tmp_path / "p.parquet"
    schema = tables.schema(tokens=(pa.list_(pa.string()), "tokens"))
    tables.write_table(prompts, {"tokens": words.tolist()}, schema)
    inputs = {"scores": scores_table(tmp_path / "s.parquet", layers), "prompts": str(prompts)} | magnitudes(
        tmp_path / "m.parquet", sizes
    )
    found = rows_of(secondary_sinks.compute(inputs, **NAMES, resampling=RESAMPLING))
    chosen = range(1, T // 2 + 1)
    score = {layer: arrays["score_excluding_self"].mean(axis=1) for layer, arrays in layers.items()}
    is_sink = {
        layer: np.array([[values[n, k] > 3 * uniform_score(k, T) for k in chosen] for n in range(N)])
        for layer, values in score.items()
    }
    massive = np.array(
        [
            [
                any(
                    s["max_abs"][n, k] > 100 and s["max_abs"][n, k] >= 1000 * s["hidden_median"][n, k]
                    for s in sizes.values()
                )
                for k in chosen
            ]
            for n in range(N)
        ]
    )
    for row in found["secondary_sinks_by_layer"]:
        sink = is_sink[row["layer"]]
        expected = NAMES | {"candidates": sink.size, "sinks": int(sink.sum())} | with_ends("share", sink.mean(axis=1))
        assert {name: row[name] for name in expected} == expected
    expected = []
    for token in sorted(set(words.ravel())):
        here = [(n, j) for n in range(N) for j, k in enumerate(chosen) if words[n, k] == token]
        sinking = [place for place in here if any(sink[place] for sink in is_sink.values())]
        if sinking:
            where = [layer for layer, sink in is_sink.items() if any(sink[place] for place in sinking)]
            expected.append(
                NAMES
                | {
                    "token": token,
                    "candidates": len(here),
                    "sinks": len(sinking),
                    "share": close(len(sinking) / len(here)),
                    "first_layer": where[0],
                }
                | {
                    "last_layer": where[-1],
                    "layers": close(np.mean([sum(sink[place] for sink in is_sink.values()) for place in sinking])),
                }
                | {
                    "score": close(
                        np.mean([max(max(values[n, j + 1] for values in score.values()), 0.0) for n, j in sinking])
                    )
                }
                | {"massive": close(np.mean([massive[place] for place in sinking]))}
            )
    expected.sort(key=lambda row: (-row["sinks"], -len(row["token"]), row["token"]))
    assert (
        len(expected) > 1
        and sorted(found["secondary_sinks"], key=lambda row: (-row["sinks"], row["token"])) == expected
    )
    order = [(-row["sinks"], -row["share"], row["token"]) for row in found["secondary_sinks"]]
    assert order == sorted(order)


# ---- mediation

LENGTH = 40


def passes(rng, cause="mask", target=2):
    """Rows of patched passes: the unedited one, the edit, a link restored and inserted, and removals with a control."""
    facts = {
        "cause": cause, "kind": None if cause is None else "mask", "strength": None if cause is None else 1.0, "layers": [0], "target": target,
        "mediator": None, "mediator_layers": [1], "control_of": None,
    }  # fmt: skip
    kinds = [({"direction": "none"}, 0.02, 0.6)]
    if cause is None:
        kinds += [
            ({"direction": "removed", "mediator": "a"}, 0.02, 0.1), ({"direction": "removed", "mediator": "b", "control_of": "a"}, 0.02, 0.45),
            ({"direction": "removed", "mediator": "c", "control_of": "a"}, 0.02, 0.6),
        ]  # fmt: skip
    else:
        kinds += [
            ({"direction": "all"}, 0.5, 0.2), ({"direction": "restored", "mediator": "key"}, 0.2, 0.4), ({"direction": "inserted", "mediator": "key"}, 0.3, 0.3),
        ]  # fmt: skip
    return [
        facts | kind | {"sequence": n, "score": mean * rng.uniform(0.5, 1.5), "first_score": first * rng.uniform(0.3, 1.3), "second_score": rng.uniform(0, 0.9)}
        for kind, mean, first in kinds for n in range(N)
    ]  # fmt: skip


def test_shares_of_links_are_ratios_of_mean_effects(tmp_path, rng):
    rows = passes(rng)
    shuffled = [rows[number] for number in rng.permutation(len(rows))]
    path = tmp_path / "passes.parquet"
    tables.write_table(
        path,
        pl.DataFrame(shuffled, infer_schema_length=None).select(mediation.PASSES_SCHEMA.names).to_arrow(),
        mediation.PASSES_SCHEMA,
    )
    found = mediation.compute({"passes": str(path)}, **NAMES, length=LENGTH, resampling=RESAMPLING)
    assert found["removals"].num_rows == 0
    columns = {}
    for row in rows:
        for name in ("score", "first_score"):
            columns.setdefault((row["direction"], name), []).append(np.float64(np.float32(row[name])))
    by = {key: np.array(values) for key, values in columns.items()}
    total = by["all", "score"] - by["none", "score"]
    table = {row["direction"]: row for row in found["mediation"].to_pylist()}
    assert set(table) == {"none", "all", "restored", "inserted"}
    for direction, row in table.items():
        score, first = by[direction, "score"], by[direction, "first_score"]
        effect, first_effect = score - by["none", "score"], first - by["none", "first_score"]
        expected = NAMES | {
            "cause": "mask", "kind": "mask", "target": 2, "layers": [0], "mediator_layers": [1], "mediator": "key" if direction in ("restored", "inserted") else None,
            "sequences": N, "score": close(score.mean()), "unedited": close(by["none", "score"].mean()), "first_score": close(first.mean()),
            "sinks": int((score > 3 * uniform_score(2, LENGTH)).sum()), "first_sinks": int((first > 3 * uniform_score(0, LENGTH)).sum()), "not_applicable": None,
        }  # fmt: skip
        for name, values in (("effect", effect), ("first_effect", first_effect)):
            expected |= {name: close(values.mean())} | dict(
                zip((f"{name}_low", f"{name}_high"), map(close, studentised_interval(values, RESAMPLING)), strict=True)
            )
        expected |= {"sink_share": expected["sinks"] / N}
        expected |= dict(
            zip(("sink_share_low", "sink_share_high"), map(close, exact_interval(expected["sinks"], N)), strict=True)
        )
        through = {"restored": total - effect, "inserted": effect}.get(direction)
        ends = (None, None) if through is None else map(close, ratio_interval(through, total, RESAMPLING))
        expected |= {"share": None if through is None else close(through.mean() / total.mean())} | dict(
            zip(("share_low", "share_high"), ends, strict=True)
        )
        assert {name: row[name] for name in expected} == expected, direction


def test_an_effect_that_is_none_or_negative_is_not_shared_out(rng):
    for scale, reason in (
        (0.0, "the edit's effect is not distinguished from none, so there is nothing to share out"),
        (-1.0, "the edit lowers the score of its target, so there is no sink to share out"),
    ):
        rows = [
            row | {"score": 0.5 + (scale * 0.2 if row["direction"] == "all" else 0.0) + 0.01 * rng.normal()}
            for row in passes(rng)
        ]
        found = {row["direction"]: row for row in mediation.pass_rows(rows, LENGTH, RESAMPLING)}
        assert {name: found[name]["not_applicable"] for name in found} == {
            "none": None,
            "all": None,
            "restored": reason,
            "inserted": reason,
        }
        assert found["restored"]["share"] is None
    few = Resampling(30, 0, (0, 0, 1, 1, 2, 2, 3, 3))
    found = {row["direction"]: row for row in mediation.pass_rows(passes(rng), LENGTH, few)}
    assert found["inserted"]["not_applicable"] == few.too_few


def test_removals_are_paired_with_each_control(tmp_path, rng):
    rows = passes(rng, cause=None)
    path = tmp_path / "passes.parquet"
    tables.write_table(
        path,
        pl.DataFrame(rows, infer_schema_length=None).select(mediation.PASSES_SCHEMA.names).to_arrow(),
        mediation.PASSES_SCHEMA,
    )
    found = mediation.compute({"passes": str(path)}, **NAMES, length=LENGTH, resampling=RESAMPLING)[
        "removals"
    ].to_pylist()
    assert [(row["removal"], row["control"]) for row in found] == [("a", "b"), ("a", "c"), ("b", None), ("c", None)]
    by = {}
    for row in rows:
        for name in ("first_score", "second_score"):
            by.setdefault((row["mediator"], name), []).append(float(np.float32(row[name])))
    first, second = (3 * uniform_score(k, LENGTH) for k in (0, 1))
    before = np.array(by[None, "first_score"])
    has = [n for n in range(N) if before[n] > first]
    assert 0 < len(has) < N
    for row in found:
        after = np.array(by[row["removal"], "first_score"])
        lost = [n for n in has if after[n] <= first]
        moved = sum(
            b <= second < a for a, b in zip(by[row["removal"], "second_score"], by[None, "second_score"], strict=True)
        )
        low, high = ratio_interval(before - after, before, RESAMPLING)
        expected = NAMES | {
            "layers": [1], "sequences": N, "before": len(has), "lost": len(lost), "lost_share": len(lost) / len(has), "first_score": close(after.mean()),
            "first_unedited": close(before.mean()), "gone": close(1 - after.mean() / before.mean()), "gone_low": close(low), "gone_high": close(high),
            "second_score": close(np.mean(by[row["removal"], "second_score"])), "second_unedited": close(np.mean(by[None, "second_score"])), "moved": moved,
            "moved_share": moved / N,
        }  # fmt: skip
        expected |= dict(
            zip(("lost_share_low", "lost_share_high"), map(close, exact_interval(len(lost), len(has))), strict=True)
        )
        if row["control"] is None:
            expected |= dict.fromkeys(
                ("control_lost", "control_lost_share", "difference", "difference_low", "difference_high", "p")
            )
        else:
            other = np.array(by[row["control"], "first_score"])
            does = np.array([[after[n] <= first, other[n] <= first] for n in has])
            pair = paired_shares(does[:, 0], does[:, 1], Resampling(30, 2))
            expected |= {
                "control_lost": int(does[:, 1].sum()),
                "control_lost_share": does[:, 1].mean(),
                "difference": close(pair.difference),
            }
            expected |= {"difference_low": close(pair.low), "difference_high": close(pair.high), "p": close(pair.p)}
        assert {name: row[name] for name in expected} == expected
    none = [row | {"first_score": 0.0} for row in rows]
    for row in mediation.removal_rows(none, LENGTH, RESAMPLING):
        assert (row["before"], row["lost_share"], row["difference"]) == (0, None, None)
        assert row["control"] in (("b", "c") if row["removal"] == "a" else (None,))


# ---- value drain, super weight, entropy, super neurons, trends


def test_values_are_compared_between_layers_with_and_without_a_sink(rng):
    ratio, mass = rng.random((31, 4)), rng.random((31, 4))
    mass[0] = [0.1, 0.5, 0.2, 0.9]
    head_ratio, head_mass = rng.random((31, 8)), rng.random((31, 8))
    depth = np.repeat(np.arange(4), 2)
    plain = Resampling(30, 2)
    row = value_drain._with_the_sink(ratio, mass, head_ratio, head_mass, depth, 0.3, plain)
    samples = {
        "with_sink": ratio[:, [1, 3]].mean(axis=1), "without_sink": ratio[:, [0, 2]].mean(axis=1),
        "difference": ratio[:, [1, 3]].mean(axis=1) - ratio[:, [0, 2]].mean(axis=1), "correlation": spearman(head_ratio, head_mass),
    }  # fmt: skip
    expected = {"threshold": 0.3, "sink_layers": 2, "other_layers": 2, "heads": 8, "not_applicable": None}
    expected["p"] = permuted_p(head_ratio[0], head_mass[0], layer_orders(depth, 2))
    for name, values in samples.items():
        low, high = np.percentile(values[1:], [2.5, 97.5])
        expected |= {name: close(values[0]), f"{name}_low": close(low), f"{name}_high": close(high)}
    assert row == expected
    two = (head_ratio[:, :2], head_mass[:, :2], depth[:2])
    none = value_drain._with_the_sink(ratio, mass, *two, 2.0, plain)
    assert none["not_applicable"] == "no layer has a sink mass above 2; ranks of fewer than 3 heads cannot be compared"
    assert (
        np.isnan([none["with_sink"], none["difference"], none["correlation"]]).all()
        and none["p"] is None
        and none["without_sink"] == ratio[0].mean()
    )
    every = value_drain._with_the_sink(ratio, mass, head_ratio, head_mass, depth, 0.05, plain)
    assert (
        every["not_applicable"] == "every layer has a sink mass above 0.05"
        and np.isnan(every["without_sink"])
        and every["sink_layers"] == 4
    )


def test_a_super_weight_is_the_weight_between_two_spikes(tmp_path, rng):
    layers = {
        layer: {
            "neuron": 5 + layer, "dim": 7, "weight": -2.0, "weight_rank": 3, "weights": 100, "mean_abs_weight": 0.5, "activation": rng.normal(4, 1, N) * layer,
            "mean_abs_activation": rng.uniform(0.5, 1, N), "output": rng.normal(-9, 1, N) * layer, "mean_abs_output": rng.uniform(1, 2, N),
            "largest_neuron": rng.choice([5 + layer, 1], N), "largest_dim": rng.choice([7, 2], N),
        }
        for layer in (1, 2)
    }  # fmt: skip
    rows = [
        {"layer": layer, "sequence": n, **{name: value[n] if isinstance(value, np.ndarray) else value for name, value in columns.items()}}
        for layer, columns in layers.items() for n in range(N)
    ]  # fmt: skip
    architecture = [{"layer": layer, "part": part, "found": None if (layer, part) == (0, "down") else "x", "reason": "experts" if layer == 0 else None}
                    for layer in range(3) for part in ("down", "up")]  # fmt: skip
    path = tmp_path / "a.parquet"
    table = pl.DataFrame(architecture, infer_schema_length=None).to_arrow()
    tables.write_table(path, table, table.schema)
    found = super_weight.compute(
        {"down_projection_spikes": write(tmp_path / "d.parquet", rows), "architecture": str(path)},
        **NAMES,
        resampling=RESAMPLING,
    )
    none, *known = found["super_weight"].to_pylist()
    assert (none["layer"], none["not_applicable"], none["place"], none["neuron"]) == (0, "experts", None, None)
    assert [(row["layer"], row["place"]) for row in known] == [(1, 2), (2, 1)]
    for row in known:
        own = layers[row["layer"]]
        a, o = own["activation"], own["output"]
        agrees = (own["largest_neuron"] == own["neuron"]) & (own["largest_dim"] == 7)
        expected = NAMES | {
            "neuron": own["neuron"], "dim": 7, "weight": -2.0, "weight_rank": 3, "weights": 100, "weight_ratio": 4.0, "not_applicable": None,
            "activation_ratio": close(np.abs(a).mean() / own["mean_abs_activation"].mean()), "output_ratio": close(np.abs(o).mean() / own["mean_abs_output"].mean()),
        }  # fmt: skip
        expected |= with_ends("activation", a) | with_ends("output", o) | with_ends("agreement", agrees)
        expected |= with_ends("share", np.stack([a * -2.0 * o, o**2], axis=1), lambda mean: mean[0] / mean[1])
        assert {name: row[name] for name in expected} == expected


def test_the_valley_of_the_entropy_is_its_lowest_layer(rng):
    curve = {layer: rng.uniform(0.5, 0.9, 31) for layer in range(-1, 5)}
    for layer, value in zip(curve, (0.6, 0.9, 0.3, 0.3, 0.8, 0.7), strict=True):
        curve[layer][0] = value
    later = {layer: rng.random(31) for layer in curve}
    masses = {layer: rng.random(31) for layer in (0, 1, 3, 4)}
    plain = Resampling(30, 2)
    row = matrix_entropy._valley(curve, later, masses, plain)
    entering = np.stack([curve[layer - 1] for layer in masses], axis=1)
    samples = {
        "lowest": curve[1], "fall": curve[0] - curve[1], "rise": curve[3] - curve[1], "without_first": later[1], "first_token": later[1] - curve[1],
        "correlation": spearman(entering, np.stack(list(masses.values()), axis=1)),
    }  # fmt: skip
    expected = {"layers": 4, "layer": 1, "not_applicable": None}
    for name, values in samples.items():
        low, high = np.percentile(values[1:], [2.5, 97.5])
        expected |= {name: close(values[0]), f"{name}_low": close(low), f"{name}_high": close(high)}
    assert {name: row[name] for name in expected} == expected
    few = matrix_entropy._valley(
        {layer: curve[layer] for layer in (-1, 0, 1)}, later, {0: masses[0], 1: masses[1]}, plain
    )
    assert (
        few["not_applicable"] == "ranks of fewer than 3 layers cannot be compared"
        and np.isnan([few["rise"], few["correlation"]]).all()
    )
    nothing = "sequences of one or two tokens have no entropy to compare"
    nan = {layer: np.full(31, np.nan) for layer in curve}
    assert (
        matrix_entropy._valley(nan, later, masses, plain)["not_applicable"]
        == matrix_entropy._valley(curve, {}, masses, plain)["not_applicable"]
        == nothing
    )
    known = dict(curve) | {2: nan[2]}
    assert (
        matrix_entropy._valley({-1: curve[-1]}, later, masses, plain)["layer"] is None
        and matrix_entropy._valley(known, later, masses, plain)["layer"] == 1
    )
    assert (
        matrix_entropy._bound(5, 3) == np.log(3)
        and matrix_entropy._bound(2, 3) == np.log(2)
        and np.isnan(matrix_entropy._bound(1, 3))
    )


def test_what_a_few_neurons_write_of_a_surge(rng):
    f = 5
    first = {name: rng.uniform(0.5, 2, (N, f)) for name in ("activation", "on_residual", "on_largest")} | {
        "added": rng.uniform(8, 9, N)
    }
    leaving = super_neurons.FirstResiduals(rng.uniform(9, 11, N), rng.uniform(4, 5, N), 3)
    few = np.array([4, 1])
    row = super_neurons.written_by_few(first, few, np.ones(N), leaving, RESAMPLING)
    along = sum(first["activation"][:, n] * first["on_residual"][:, n] for n in few) / leaving.norm
    written = sum(first["activation"][:, n] * first["on_largest"][:, n] for n in few)
    expected = {"few": [4, 1]}
    for name, above, below in (("few_surge", along, first["added"]), ("few_largest", written, leaving.largest)):
        ends = ratio_interval(above, below, RESAMPLING)
        expected |= {
            name: close(above.mean() / below.mean()),
            f"{name}_low": close(ends[0]),
            f"{name}_high": close(ends[1]),
        }
    assert row == expected
    assert set(super_neurons.written_by_few(first, few, leaving.norm / 2, leaving, RESAMPLING)) == {
        "few",
        "few_largest",
        "few_largest_low",
        "few_largest_high",
    }
    assert super_neurons.written_by_few(first, few[:0], np.ones(N), leaving, RESAMPLING) == {"few": []}
    shares = np.array([[0.1, 0.5, 0.5, 0.2, 0.3, 0.9]])
    assert super_neurons._few(np.array([True, True, True, True, True, False]), shares).tolist() == [1, 2, 4]
    assert super_neurons.is_super_neuron(
        np.array([0.5, 0.49, np.nan, 0.6]), np.array([3.0, 9.0, 9.0, np.nan]), share=0.5, ratio=3.0
    ).tolist() == [True, False, False, False]
    squared = super_neurons.norm_without(
        np.array([3.0]), np.array([[2.0, 1.0]]), np.array([[1.0, 9.0]]), np.array([0.5, 1.0])
    )
    assert squared.tolist() == [[np.sqrt(9 - 4 + 1), 0.0]]


def test_what_the_norm_loses_without_each_neuron(rng):
    f = 4
    first = {"activation": rng.uniform(0.1, 1, (N, f)), "on_residual": rng.uniform(0.5, 2, (N, f))}
    down, before, after = rng.uniform(0.5, 1, f), rng.uniform(1, 2, N), rng.uniform(9, 10, N)
    neuron, surge = super_neurons._norm_changes(first, down, before, after, RESAMPLING)
    without = np.array(
        [
            [
                np.sqrt(
                    after[n] ** 2
                    - 2 * first["activation"][n, k] * first["on_residual"][n, k]
                    + (first["activation"][n, k] * down[k]) ** 2
                )
                for k in range(f)
            ]
            for n in range(N)
        ]
    )
    change = (after[:, None] - without).mean(axis=0)
    largest = int(np.abs(change).argmax())
    assert neuron["norm_change"] == pytest.approx(change) and (surge["largest"], surge["without_largest"]) == (
        largest,
        close(without[:, largest].mean()),
    )
    assert neuron["surge_share"] == pytest.approx(change / (after - before).mean())
    for k in range(f):
        ends = with_ends("x", np.stack([after - without[:, k], after - before], axis=1), lambda mean: mean[0] / mean[1])
        assert (neuron["surge_share"][k], neuron["surge_share_low"][k], neuron["surge_share_high"][k]) == tuple(
            ends.values()
        )
    assert (
        surge["accounted"] == neuron["surge_share"][largest]
        and surge["accounted_low"] == neuron["surge_share_low"][largest] < surge["accounted_high"]
    )
    neuron, surge = super_neurons._norm_changes(first, down, after / 2, after, RESAMPLING)
    assert set(neuron) == {"norm_change"} and set(surge) == {"without_largest", "largest"}


def test_ratios_of_a_curve_have_the_intervals_of_their_logarithms(rng):
    positions = np.array([0, 1, 2, 3, 4, 7])
    replicated = np.exp(rng.normal(0, 0.2, (31, 6))) * np.array([5.0, 2.0, 1.5, 1.8, 1.0, 1.1])
    means = np.stack(
        [replicated[:, 0], replicated[:, 1], replicated[:, 2:4].mean(axis=1), replicated[:, 4:].mean(axis=1)], axis=1
    )
    pairs = {
        "ratio_to_highest": (np.log(replicated[:, :1]) - np.log(replicated[:, 1:]), np.min),
        "largest_rise": (np.stack([np.log(means[:, b] / means[:, a]) for a in range(4) for b in range(a + 1, 4)], axis=1), np.max),
        "last_to_second": (np.log(means[:, 3:] / means[:, 1:2]), np.max),
    }  # fmt: skip
    for name, (logs, least) in pairs.items():
        width = simultaneous_widths(logs, RESAMPLING, N)
        expected = [np.exp(least(part)) for part in (logs[0], logs[0] - width, logs[0] + width)]
        assert variance.RATIOS[name](replicated, positions, RESAMPLING, N) == pytest.approx(expected)
        broken = replicated.copy()
        broken[3, 2] = np.nan
        assert np.isnan(variance.RATIOS[name](broken, positions, RESAMPLING, N)).all()
        assert np.isnan(variance.RATIOS[name](replicated[:, :1], positions[:1], RESAMPLING, N)).all()
    assert np.isnan(variance.last_to_second(replicated[:, :2], positions[:2], RESAMPLING, N)).all()
    assert np.isfinite(variance.largest_rise(replicated[:, :2], positions[:2], RESAMPLING, N)).all()
    assert np.isnan(variance.first_to_highest(replicated[:, 1:], positions[1:], RESAMPLING, N)).all()
    assert variance.first_to_rest(replicated[0], positions) == pytest.approx(
        replicated[0, 0] / replicated[0, 1:].mean()
    )
    later, alone = (
        variance.first_to_rest(replicated[:, 1:], positions[1:]),
        variance.first_to_rest(replicated[0, :1], positions[:1]),
    )
    assert later.shape == (31,) and np.isnan(later).all() and alone.shape == () and np.isnan(alone)
