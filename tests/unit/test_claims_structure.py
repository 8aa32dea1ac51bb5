"""Every verdict on the links between variance and sink can turn, and controls are judged the other way round."""

import polars as pl
import pytest

from claim_tables import declared_tables
from sinkorigin.claims.ledger import judge
from sinkorigin.claims.verdicts import NOT_APPLICABLE, NOT_SEEN, SEEN, UNDECIDED, Judged

MODEL = Judged("m", "M", "pretrained")
CONTROL = Judged("r", "M, random weights", "random")


def write(root, name, rows, model="m"):
    path = root / "statistics" / model / "p" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)


def claims(root, model=MODEL):
    rows = judge(declared_tables(root), models=[model], prompts=["p"]).to_pylist()
    return {row["claim"]: row for row in rows}


def ends(name, value, low, high):
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def neuron(number, chosen, surge, **other):
    return {
        "layer": 1, "neuron": number, "super_neuron": chosen, "norm_change": 10.0 if chosen else 0.1,
        **ends("surge_share", *surge), "first": 50.0, "rest": 0.1, "gate_cosine_first": 0.5, "gate_cosine_rest": 0.0,
        "gate_norm": 9.0 if chosen else 1.0, "gate_norm_ratio": 9.0 if chosen else 1.0, "up_norm": 1.0, "up_norm_ratio": 1.0,
        "participation_ratio": 1.2 if chosen else 100.0, "dim_1": 4, "dim_2": 8, "dominant_dim": 4,
        "hits_dominant_dim": True, "not_applicable": None, **other,
    }  # fmt: skip


def layer_of(*chosen):
    return [*chosen, *(neuron(100 + i, False, (0.0, 0.0, 0.0)) for i in range(150))]


@pytest.mark.parametrize(
    ("surge", "expected"),
    [((0.7, 0.6, 0.8), SEEN), ((0.6, 0.4, 0.8), UNDECIDED), ((0.3, 0.2, 0.8), NOT_SEEN)],
)
def test_a_super_neuron_must_carry_most_of_the_surge(surge, expected, tmp_path):
    write(tmp_path, "super_neurons", layer_of(neuron(7, True, surge)))
    found = claims(tmp_path)
    assert found["super neuron"]["verdict"] == expected
    assert "layer 1, neuron 7" in found["super neuron"]["reason"]
    assert found["channel sparsity"]["verdict"] == SEEN
    assert found["outlying weights"]["verdict"] == SEEN


def test_no_neuron_by_the_rule_is_not_seen_and_no_neurons_is_not_applicable(tmp_path):
    write(tmp_path, "super_neurons", layer_of())
    assert claims(tmp_path)["super neuron"]["verdict"] == NOT_SEEN
    nothing = dict.fromkeys(neuron(0, False, (None, None, None))) | {"super_neuron": False, "not_applicable": "experts"}
    write(tmp_path, "super_neurons", [nothing])
    found = claims(tmp_path)["super neuron"]
    assert found["verdict"] == NOT_APPLICABLE and found["reason"] == "experts"


def test_a_neuron_that_takes_the_norm_away_makes_no_surge(tmp_path):
    write(tmp_path, "super_neurons", layer_of(neuron(7, True, (-0.7, -0.8, -0.6), norm_change=-10.0)))
    found = claims(tmp_path)
    assert found["super neuron"]["verdict"] == NOT_SEEN and "channel sparsity" not in found


def test_what_the_super_neurons_write_and_weigh_can_fail_to_be_so(tmp_path):
    one = neuron(7, True, (0.7, 0.6, 0.8), hits_dominant_dim=False, participation_ratio=50.0, gate_norm=0.5)
    write(tmp_path, "super_neurons", layer_of(one))
    found = claims(tmp_path)
    names = ("super neurons write the dominating dim", "channel sparsity", "outlying weights")
    assert [found[name]["verdict"] for name in names] == [NOT_SEEN] * 3


@pytest.mark.parametrize(("chosen", "expected"), [(False, SEEN), (True, NOT_SEEN)])
def test_random_weights_should_have_no_super_neuron(chosen, expected, tmp_path):
    write(tmp_path, "super_neurons", layer_of(neuron(7, chosen, (0.7, 0.6, 0.8))), model="r")
    assert claims(tmp_path, CONTROL)["no super neuron"]["verdict"] == expected


def key_rows(layer, between, one, two):
    return {
        "layer": layer, "head": None, **ends("between_sequences", between, between - 0.01, between + 0.01),
        **ends("one_dim", one, one - 0.01, one + 0.01), **ends("two_dims", two, two - 0.01, two + 0.01), "top_dim": 4,
        "not_applicable": None,
    }  # fmt: skip


def test_keys_are_judged_in_the_layer_of_the_strongest_sink(tmp_path):
    write(
        tmp_path, "sink_mass", [{"layer": i, **ends("mass", m, m, m), "uniform": 0.06} for i, m in ((0, 0.1), (1, 0.8))]
    )
    write(tmp_path, "key_collapse", [key_rows(0, 0.1, 0.1, 0.1), key_rows(1, 0.99, 0.905, 0.95)])
    found = claims(tmp_path)
    verdicts = [found[name]["verdict"] for name in ("fixed key", "key from one dim", "key from two dims")]
    assert verdicts == [SEEN, UNDECIDED, SEEN]
    write(tmp_path, "key_collapse", [key_rows(0, 0.99, 0.99, 0.99), key_rows(1, 0.2, 0.1, 0.1)])
    assert claims(tmp_path)["fixed key"]["verdict"] == NOT_SEEN


@pytest.mark.parametrize("model", [MODEL, CONTROL])
def test_keys_of_one_token_are_not_compared_between_sequences(tmp_path, model):
    reason = "every sequence begins with the same token, so its keys cannot be compared between sequences"
    nothing = ends("between_sequences", None, None, None) | {"not_applicable": reason}
    write(tmp_path, "sink_mass", [{"layer": 0, **ends("mass", 0.8, 0.8, 0.8), "uniform": 0.06}], model=model.name)
    write(tmp_path, "key_collapse", [key_rows(0, 0.99, 0.99, 0.99) | nothing], model=model.name)
    found = claims(tmp_path, model)
    row = found["no fixed key" if model.is_control else "fixed key"]
    assert (row["verdict"], row["reason"]) == (NOT_APPLICABLE, reason)
    if not model.is_control:
        assert found["key from one dim"]["verdict"] == SEEN


@pytest.mark.parametrize(("between", "expected"), [(0.05, SEEN), (0.8, NOT_SEEN)])
def test_random_weights_should_have_no_fixed_key(between, expected, tmp_path):
    write(tmp_path, "sink_mass", [{"layer": 0, **ends("mass", 0.1, 0.1, 0.1), "uniform": 0.06}], model="r")
    write(tmp_path, "key_collapse", [key_rows(0, between, 0.1, 0.1)], model="r")
    assert claims(tmp_path, CONTROL)["no fixed key"]["verdict"] == expected


@pytest.mark.parametrize(("low", "expected"), [(0.2, SEEN), (-0.1, UNDECIDED)])
def test_correlations_need_their_whole_interval(low, expected, tmp_path):
    row = {"quantity": "alignment", "over": "heads", "count": 9, **ends("correlation", 0.4, low, 0.6)}
    write(tmp_path, "alignment_correlation", [row])
    assert claims(tmp_path)["alignment goes with sink, by head"]["verdict"] == expected


def change(kind, layer, low=5.0):
    return {"kind": kind, "layer": layer, "threshold": 2.0, "change_low": low}


@pytest.mark.parametrize(("sink", "expected"), [(12, SEEN), (11, SEEN), (14, NOT_SEEN), (10, NOT_SEEN)])
def test_the_sink_must_rise_right_after_every_surge(sink, expected, tmp_path):
    write(tmp_path, "norm_changes", [change("rise", 2), change("fall", 9), change("rise", 11)])
    write(tmp_path, "sink_changes", [change("rise", 3), change("rise", sink)])
    assert claims(tmp_path)["sink after every surge"]["verdict"] == expected


def test_a_norm_that_never_surges_leaves_nothing_to_follow(tmp_path):
    write(tmp_path, "norm_changes", [change("fall", 2)])
    write(tmp_path, "sink_changes", [change("rise", 3)])
    assert claims(tmp_path)["sink after every surge"]["verdict"] == NOT_APPLICABLE


@pytest.mark.parametrize(
    ("model", "share", "claim", "expected"),
    [
        (MODEL, (0.05, 0.01, 0.1), "secondary sinks", SEEN),
        (MODEL, (0.05, 0.0, 0.1), "secondary sinks", UNDECIDED),
        (MODEL, (0.0, 0.0, 0.0), "secondary sinks", NOT_SEEN),
        (CONTROL, (0.0, 0.0, 0.0), "no secondary sinks", SEEN),
        (CONTROL, (0.05, 0.01, 0.1), "no secondary sinks", NOT_SEEN),
    ],
)
def test_secondary_sinks(model, share, claim, expected, tmp_path):
    write(tmp_path, "secondary_sinks_by_layer", [{"layer": 0, **ends("share", *share)}], model=model.name)
    write(tmp_path, "secondary_sinks", [{"token": ".", "sinks": 3, "candidates": 9}], model=model.name)
    assert claims(tmp_path, model)[claim]["verdict"] == expected


@pytest.mark.parametrize(("share", "expected"), [((1.0, 1.0, 1.0), SEEN), ((0.4, 0.3, 0.6), NOT_SEEN)])
def test_massive_activations(share, expected, tmp_path):
    row = {"layer": 3, "position": 0, **ends("share", *share), "max_abs": 900.0, "dim": 4}
    write(tmp_path, "massive_activations", [row])
    assert claims(tmp_path)["massive activations"]["verdict"] == expected


@pytest.mark.parametrize(("tau", "expected"), [((0.3, 0.2, 0.4), SEEN), ((-0.3, -0.4, -0.2), NOT_SEEN)])
def test_both_readings_of_the_variance_through_the_output_projection(tau, expected, tmp_path):
    row = {"layer": 0, **ends("dim_tau", *tau), **ends("position_tau", *tau), "not_applicable": None}
    write(tmp_path, "variance_through_output", [row])
    found = claims(tmp_path)
    assert found["W_O keeps std by dim"]["verdict"] == found["W_O keeps order"]["verdict"] == expected
