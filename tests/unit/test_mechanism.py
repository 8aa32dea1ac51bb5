"""Patched passes do what mediation, interchange and removal say, in any architecture."""

import numpy as np
import polars as pl
import pytest
import torch

from architectures import build
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions import attention_map
from sinkorigin.interventions.chain import Removal, exchanged, mediators, removals, structure
from sinkorigin.interventions.context import EditTap, intervene
from sinkorigin.interventions.kinds.blind_to_first import BlindToFirst
from sinkorigin.interventions.kinds.mask import Mask
from sinkorigin.interventions.kinds.other_token_only import OtherTokenOnly
from sinkorigin.interventions.kinds.variance_amplification import VarianceAmplification
from sinkorigin.interventions.kinds.window import Window
from sinkorigin.interventions.mechanism import Cause, mechanism
from sinkorigin.interventions.mediation import EMBEDDING, Mediator, Patch, at_position, run
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.statistics.bootstrap import Resampling
from sinkorigin.statistics.mediation import PASSES_SCHEMA, compute
from sinkorigin.tables import write_table

K, T, N = 5, 12, 6
EDITED = [0, 1]
# grouped queries; fused projections and LayerNorm; parallel blocks; QK-norm and post-norms; experts; sink logits
NAMES = ["llama", "gpt2", "gpt_neox", "gemma3", "mixtral", "gpt_oss"]


@pytest.fixture(params=NAMES)
def architecture(request):
    return read_architecture(build(request.param))


@pytest.fixture
def ids(token_ids):
    return torch.from_numpy(token_ids)


def neurons_of(layers=(1, 2), super_neurons=((1, 7), (2, 3)), count=48) -> pl.DataFrame:
    """A table of super neurons as the statistic writes it, with norms that differ by neuron."""
    rows = [
        {
            "layer": layer, "neuron": neuron, "super_neuron": (layer, neuron) in super_neurons, "norm_change": 1.0,
            "gate_norm": 1.0 + neuron % 10, "up_norm": 2.0 + neuron % 10, "dim_1": neuron % 30, "dim_2": 31, "dim_1_share": 0.8, "dim_2_share": 0.005,
        }
        for layer in layers
        for neuron in range(count)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def chain_of(architecture, super_neurons=None):
    has_neurons = all("ffn_activation" in places for places in architecture.places)
    table = neurons_of() if super_neurons is None else super_neurons
    return structure(
        table if has_neurons else table.clear(), [1, 2], edited=EDITED, layers=architecture.layers, attending=sorted(architecture.attention),
        width=32, seed=0,
    )  # fmt: skip


def close(left, right):
    for name in ("score", "first_score", "second_score"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=1e-5, atol=1e-6)


def differ(left, right) -> bool:
    return (left.score - right.score).abs().max() > 1e-6 or (left.first_score - right.first_score).abs().max() > 1e-6


def masked(layers=EDITED):
    return EditTap(Mask(layers=layers, positions=[K]))


def test_the_whole_effect_of_a_mask_goes_through_the_value_aggregation(architecture, ids):
    link = Mediator("value aggregation", "value_aggregation", EDITED)
    clean, had = run(architecture, ids, target=K, record=[(link, K)])
    edited, under = run(architecture, ids, target=K, cause=masked(), record=[(link, K)])
    assert differ(clean, edited)
    restored, _ = run(architecture, ids, target=K, cause=masked(), patches=[Patch(link, K, had[link.name, K])])
    # the scores of positions 0 and 1 are of later queries, k among them, whose own weights are masked all the same
    torch.testing.assert_close(restored.score, clean.score, rtol=1e-5, atol=1e-6)
    inserted, _ = run(architecture, ids, target=K, patches=[Patch(link, K, under[link.name, K])])
    torch.testing.assert_close(inserted.score, edited.score, rtol=1e-5, atol=1e-6)


def test_a_link_patched_with_its_own_values_changes_nothing(architecture, ids):
    found = chain_of(architecture)
    places = {one.name: (one, position) for position in (0, K) for one in (*mediators(found), *exchanged(found))}
    clean, had = run(architecture, ids, target=K, record=list(places.values()))
    for one, position in places.values():
        patched, _ = run(architecture, ids, target=K, patches=[Patch(one, position, had[one.name, position])])
        close(patched, clean)


def test_every_link_patched_with_other_values_changes_the_pass_and_nothing_before_its_position(architecture, ids):
    found = chain_of(architecture)
    places = [(one, position) for one in exchanged(found) for position in (0, K)]
    clean, had = run(architecture, ids, target=K, record=places)
    for one in exchanged(found):
        moved, _ = run(architecture, ids, target=K, patches=[Patch(one, K, had[one.name, 0])])
        assert differ(moved, clean), one.name
        rows = {}
        for name, patches in (("clean", []), ("patched", [Patch(one, K, had[one.name, 0])])):

            def keep(layer, vectors, name=name):
                rows[name, layer] = vectors.clone()

            for position in (K - 1, K):
                with at_position(architecture, "residual", [2], position, T, keep):
                    run(architecture, ids, target=K, patches=patches)
                rows[name, position] = rows.pop((name, 2))
        assert torch.equal(rows["clean", K - 1], rows["patched", K - 1]), one.name
        if (
            one.site != "key"
        ):  # position k's own vectors do not change where only what others see of it does, but its own query sees it too
            assert not torch.equal(rows["clean", K], rows["patched", K]), one.name


def test_the_embedding_carries_the_token(architecture, ids):
    """Position k with the embedding of position 0 is position k with that token: RoPE and learned positions stay."""
    if architecture.model.config.model_type == "gpt2":
        pytest.skip("its learned positions are in what enters the first layer")
    embedding = Mediator("embedding", EMBEDDING, [0])
    _, had = run(architecture, ids, target=K, record=[(embedding, 0)])
    moved, _ = run(architecture, ids, target=K, patches=[Patch(embedding, K, had["embedding", 0])])
    other = ids.clone()
    other[:, K] = ids[:, 0]
    close(moved, run(architecture, other, target=K)[0])


def test_some_neurons_and_dims_are_patched_alone(ids):
    architecture = read_architecture(build("llama"))
    one = Mediator("neurons", "ffn_activation", [1], {1: [7, 9]})
    seen = {}
    whole = Mediator("all", "ffn_activation", [1])
    _, had = run(architecture, ids, target=K, record=[(whole, 0), (whole, K)])
    _, seen = run(architecture, ids, target=K, patches=[Patch(one, K, had["all", 0])], record=[(whole, K), (whole, 0)])
    expected = had["all", K][1].clone()
    expected[:, [7, 9]] = had["all", 0][1][:, [7, 9]]
    assert torch.equal(seen["all", K][1], expected) and torch.equal(seen["all", 0][1], had["all", 0][1])
    _, zeroed = run(architecture, ids, target=K, patches=[Patch(one, K, {1: torch.zeros(())})], record=[(whole, K)])
    assert (zeroed["all", K][1][:, [7, 9]] == 0).all() and torch.equal(
        zeroed["all", K][1][:, 10:], had["all", K][1][:, 10:]
    )


# ---- masks that come apart


class _Attention(Tap):
    def __init__(self):
        self.logits, self.weights, self.aggregation = {}, {}, {}

    def edit_logits(self, layer, logits, offset):
        self.logits[layer] = logits.clone()  # of the taps before it, so it is set first: as the model masks them
        return logits

    def observe(self, layer, query, key, weights, aggregation):
        self.weights[layer], self.aggregation[layer] = weights.clone(), aggregation.clone()


@pytest.mark.parametrize(
    ("edit", "seen"),
    [
        (Mask, [K]),
        (OtherTokenOnly, [K - 1]),
        (BlindToFirst, [1, 2, 3, 4, 5]),
        (Window, [3, 4, 5]),
    ],
)
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_masks_equal_dense_attention_over_the_tokens_that_they_leave(name, edit, seen, ids):
    model = build(name)
    if name == "gemma2" and edit is BlindToFirst:
        pytest.skip("its sliding window of four hides more")
    more = {"strength": 3.0} if edit is Window else {}
    before, plain, edited = _Attention(), _Attention(), _Attention()
    with torch.no_grad():
        with intervene(model, plain):
            model(ids)
        # values: position j of a pass in which every position sees itself only
        with intervene(model, Mask(layers=[0], positions=range(T)), before):
            model(ids)
        with intervene(model, edit(layers=[0], positions=[K], **more), edited):
            model(ids)
    logits = plain.logits[0][:, :, K].double().numpy()  # (N, H, T)
    visible = np.full(logits.shape[-1], -np.inf)
    visible[seen] = 0
    shifted = logits + visible
    weights = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    values = before.aggregation[0].double().numpy()  # (N, H, T, d_k)
    np.testing.assert_allclose(edited.weights[0][:, :, K].numpy(), weights, atol=1e-6)
    np.testing.assert_allclose(
        edited.aggregation[0][:, :, K].numpy(), np.einsum("nht,nhtd->nhd", weights, values), atol=1e-5
    )
    for position in (*range(K), *range(K + 1, T)):  # the other queries of the edited layer are as they were
        assert torch.equal(edited.weights[0][:, :, position], plain.weights[0][:, :, position])


def test_masks_that_would_be_another_edit_are_refused():
    assert "not to be position 0" in OtherTokenOnly.refusal([1], [])
    assert "leaves a mask" in BlindToFirst.refusal([1, 5], [])
    assert "reaches position 0" in Window.refusal([5], [6])
    assert "numbers of tokens" in Window.refusal([5], [2.5])
    assert Window.refusal([5], [1, 5]) is None and OtherTokenOnly.refusal([2], []) is None


# ---- what is found in the tables, and what is taken away


def test_controls_are_as_many_other_neurons_of_the_same_layers():
    table = neurons_of(super_neurons=((1, 7), (1, 20), (2, 3)))
    found = structure(table, [1, 2], edited=EDITED, layers=3, attending=[0, 1, 2], width=32, seed=0)
    assert found.neurons == {1: [7, 20], 2: [3]} and found.reason is None
    for name, numbers in found.controls.items():
        for layer, some in found.neurons.items():
            assert len(set(numbers[layer])) == len(some) and not set(numbers[layer]) & set(some), name
    norms = {row["neuron"]: row["gate_norm"] for row in table.filter(layer=1).to_dicts()}
    for chosen, control in zip(
        found.neurons[1], sorted(found.controls["neurons of equal norm"][1], key=lambda n: n % 10 != 7), strict=True
    ):
        assert norms[chosen] == norms[control]
    assert found.dims == {1: [7, 20], 2: [3, 7, 20]}  # what was written stays in the residual stream
    for layer, some in found.other_dims.items():
        assert len(some) == len(found.dims[layer]) or layer == 2
        assert not set(some) & set(found.dims[layer])


def test_neurons_that_end_a_surge_or_lie_elsewhere_are_left_alone():
    table = neurons_of().with_columns(norm_change=pl.when(pl.col("layer") == 2).then(-1.0).otherwise(1.0))
    found = structure(table, [1, 2], edited=EDITED, layers=3, attending=[0, 1, 2], width=32, seed=0)
    assert found.neurons == {1: [7]}
    none = structure(table, [0], edited=EDITED, layers=3, attending=[0, 1, 2], width=32, seed=0)
    assert not none.neurons and none.reason == "no super neuron raises the first token's norm where it surges"
    assert [one.name for one in removals(none, varied=True)] == ["aggregation by target", "aggregation by next"]
    assert "super neurons" not in [one.name for one in mediators(none)]


def rows_of(architecture, token_ids, batch=3, causes=None, table=None):
    causes = [Cause("mask", Mask(layers=EDITED, positions=[K]))] if causes is None else causes
    found = chain_of(architecture, table)
    rows = [row for part in mechanism(architecture, token_ids, found, causes, target=K, batch=batch) for row in part]
    return pl.DataFrame(rows, infer_schema_length=None)


def mean_of(rows, name="first_score", **where):
    return rows.filter(**where).sort("sequence")[name].to_numpy()


def test_removals_put_in_what_they_say(token_ids, ids):
    architecture = read_architecture(build("llama"))
    rows = rows_of(architecture, token_ids, batch=3)
    neurons = Mediator("super neurons", "ffn_activation", [1, 2], {1: [7], 2: [3]})
    aggregation = Mediator("aggregation", "value_aggregation", EDITED)
    whole = Mediator("all", "ffn_activation", [1, 2])
    _, had = run(architecture, ids, target=K, record=[(whole, K), (aggregation, 0), (aggregation, K)])
    next_in_batch = [1, 2, 0, 4, 5, 3]
    expected = {
        "super neurons by zero": Patch(neurons, 0, dict.fromkeys([1, 2], torch.zeros(()))),
        "super neurons by mean": Patch(
            neurons, 0, {layer: had["all", K][layer].mean(0, keepdim=True) for layer in (1, 2)}
        ),
        "aggregation by target": Patch(aggregation, 0, had["aggregation", K]),
        "aggregation by next": Patch(
            aggregation, 0, {layer: had["aggregation", 0][layer][next_in_batch] for layer in EDITED}
        ),
    }
    clean = mean_of(rows, direction="none", cause="mask")
    for name, patch in expected.items():
        shown, _ = run(architecture, ids, target=K, patches=[patch])
        found = mean_of(rows, direction="removed", mediator=name)
        np.testing.assert_allclose(found, shown.first_score.numpy(), rtol=1e-5, atol=1e-7, err_msg=name)
        assert np.abs(found - clean).max() > 1e-6, name
    controls = dict(rows.filter(direction="removed").select("mediator", "control_of").unique().rows())
    assert controls["random neurons by zero"] == controls["neurons of equal norm by zero"] == "super neurons by zero"
    assert controls["aggregation by next"] == "aggregation by target" and controls["super neurons by zero"] is None


def test_another_sequences_aggregation_is_no_control_where_all_begin_alike(token_ids):
    alike = token_ids.copy()
    alike[:, 0] = 7
    rows = rows_of(read_architecture(build("llama")), alike)
    assert "aggregation by next" not in rows["mediator"].to_list()
    assert "aggregation by target" in rows["mediator"].to_list()


def test_batches_of_one_and_causes_of_other_layers_are_refused_in_a_sentence(token_ids):
    architecture = read_architecture(build("llama"))
    with pytest.raises(SinkoriginError, match="batches of one"):
        rows_of(architecture, token_ids, batch=1)
    late = Cause("late", Mask(layers=[2], positions=[K]))
    with pytest.raises(SinkoriginError, match="intervention late edits layers 2, but"):
        rows_of(architecture, token_ids, causes=[late])


def test_every_architecture_is_followed_and_its_tables_are_made(architecture, token_ids, tmp_path):
    amplification = VarianceAmplification(layers=EDITED, positions=[K], strength=8.0)
    causes = [Cause("mask", Mask(layers=EDITED, positions=[K])), Cause("amplified", amplification)]
    rows = rows_of(architecture, token_ids, causes=causes)
    assert rows.null_count()["score"].item() == 0 and np.isfinite(rows["score"].to_numpy()).all()
    write_table(tmp_path / "passes.parquet", rows.select(PASSES_SCHEMA.names).to_arrow(), PASSES_SCHEMA)
    found = compute(
        {"passes": str(tmp_path / "passes.parquet")},
        model="m",
        prompts="p",
        length=T,
        resampling=Resampling(40, seed=0),
    )
    mediation = pl.DataFrame(found["mediation"])
    whole = mediation.filter(mediator="value aggregation").filter(pl.col("share").is_not_null())
    np.testing.assert_allclose(whole["share"].to_numpy(), 1, atol=1e-3)
    experts = architecture.model.config.model_type in ("mixtral", "gpt_oss")
    assert ("super neurons" in mediation["mediator"].to_list()) == (not experts)
    removed = pl.DataFrame(found["removals"])["removal"].to_list()
    assert ("super neurons by zero" in removed) == (not experts) and "aggregation by target" in removed


def test_rows_do_not_depend_on_the_batch_for_what_needs_one_sequence(token_ids):
    architecture = read_architecture(build("llama"))
    few, many = (
        rows_of(architecture, token_ids, batch=batch).filter(pl.col("mediator") != "aggregation by next")
        for batch in (2, 6)
    )
    key = ["cause", "direction", "mediator", "sequence"]
    few, many = (one.sort(key) for one in (few, many))
    np.testing.assert_allclose(few["score"].to_numpy(), many["score"].to_numpy(), rtol=1e-5, atol=1e-7)


def test_removals_have_names_that_say_by_what():
    one = Mediator("dominating dims", "residual", [1], {1: [2]})
    assert Removal(one, "mean").name == "dominating dims by mean"


@pytest.mark.parametrize("most", [T, K, K + 1])
def test_a_map_may_end_before_the_edited_position(token_ids, monkeypatch, most):
    monkeypatch.setattr(attention_map, "MOST_POSITIONS", most)
    architecture = read_architecture(build("llama"))
    causes = [Cause("mask", Mask(layers=EDITED, positions=[K]))]
    [rows] = attention_map.attention_maps(architecture, token_ids, causes, batch=2)
    assert {row["target"] for row in rows} == {K} and max(row["query"] for row in rows) == most - 1
    assert len(rows) == 2 * most * (most + 1) // 2
