"""The edits do what their formulas say, exactly, and leave nothing behind."""

import pytest
import torch

from architectures import build
from sinkorigin.activations.capture import watch_sites
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.context import intervene
from sinkorigin.interventions.kinds.blind_to_first import BlindToFirst
from sinkorigin.interventions.kinds.dominating_dims import DominatingDims
from sinkorigin.interventions.kinds.mask import Mask
from sinkorigin.interventions.kinds.mean_and_deviation import MeanAndDeviation
from sinkorigin.interventions.kinds.mean_shift import MeanShift
from sinkorigin.interventions.kinds.norm_control import NormControl
from sinkorigin.interventions.kinds.random_directions import RandomDirections
from sinkorigin.interventions.kinds.shuffled_deviations import ShuffledDeviations
from sinkorigin.interventions.kinds.super_neuron_ablation import SuperNeuronAblation
from sinkorigin.interventions.kinds.value_averaging import ValueAveraging
from sinkorigin.interventions.kinds.variance_amplification import VarianceAmplification
from sinkorigin.interventions.kinds.window import Window
from sinkorigin.interventions.schemas import layer_runs
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.attention import Tap


class Watch(Tap):
    """Keeps the aggregation of every layer, and the values as the heads see them (position 0 attends to itself)."""

    def __init__(self):
        self.aggregation, self.weights = {}, {}

    def observe(self, layer, query, key, weights, aggregation):
        self.aggregation[layer], self.weights[layer] = aggregation.clone(), weights.clone()


def run(model, ids, *edits):
    watch = Watch()
    with intervene(model, *edits, watch), torch.no_grad():
        logits = model(ids).logits
    return watch, logits


def values_of(model, ids, layer, edits=()):
    """The value vectors (N, H, T, d_k) of a layer, read off by making every position attend to itself only."""
    alone = Mask(layers=[layer], positions=range(ids.shape[1]))
    return run(model, ids, *edits, alone)[0].aggregation[layer]


def test_blind_to_first_hides_nothing_more_from_a_position_than_a_sliding_window_and_the_first_token(token_ids):
    model, ids = build("mistral"), torch.from_numpy(token_ids)  # its window is four tokens
    plain, _ = run(model, ids)
    watch, _ = run(model, ids, BlindToFirst(layers=[0], positions=[3, 9]))
    weights = plain.weights[0].clone()
    assert (weights[:, :, 3, :4] > 0).all() and (weights[:, :, 9, 6:10] > 0).all() and not weights[:, :, 9, :6].any()
    weights[:, :, 3, 0] = 0
    weights[:, :, 3] /= weights[:, :, 3].sum(dim=-1, keepdim=True)
    torch.testing.assert_close(watch.weights[0], weights)


def test_a_window_longer_than_that_of_the_model_is_refused(token_ids):
    with pytest.raises(
        SinkoriginError, match="window lets position 9 attend to 5, 6, 7, 8, 9 only, but layer 0 hides that"
    ):
        run(build("mistral"), torch.from_numpy(token_ids), Window(layers=[0], positions=[9], strength=5))


def test_mask_makes_the_aggregation_the_value_vector(any_model, token_ids):
    if any_model.config.model_type == "gpt_oss":
        pytest.skip("a learned sink logit keeps part of every row")
    ids = torch.from_numpy(token_ids)
    values = values_of(any_model, ids, 0)
    watch, _ = run(any_model, ids, Mask(layers=[0], positions=[5]))
    assert torch.equal(watch.aggregation[0][:, :, 5], values[:, :, 5])
    assert torch.equal(watch.weights[0][:, :, 5, 5], torch.ones_like(watch.weights[0][:, :, 5, 5]))
    untouched, _ = run(any_model, ids)
    assert torch.equal(watch.aggregation[0][:, :, :5], untouched.aggregation[0][:, :, :5])
    assert not torch.equal(watch.aggregation[0][:, :, 5], untouched.aggregation[0][:, :, 5])


class Insistent:
    """The edit, set although it changes nothing, so that its formula is what is tested."""

    changes_nothing = False


@pytest.mark.parametrize("edit", [VarianceAmplification, NormControl, RandomDirections, MeanShift])
def test_strength_one_changes_no_bit(any_model, token_ids, edit):
    ids = torch.from_numpy(token_ids)
    with torch.no_grad():
        plain = any_model(ids).logits
    insistent = type("Edit", (Insistent, edit), {})
    _, logits = run(any_model, ids, insistent(layers=[0, 1], positions=[5], strength=1.0))
    assert torch.equal(logits, plain)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_an_edit_of_nothing_changes_no_bit_in_any_implementation(llama, token_ids, implementation):
    ids = torch.from_numpy(token_ids)
    before = llama.config._attn_implementation
    llama.set_attn_implementation(implementation)
    try:
        with torch.no_grad():
            plain = llama(ids).logits
            for edit in (
                VarianceAmplification(layers=[0, 1], positions=[5], strength=1.0),
                Mask(layers=[], positions=[5]),
                NormControl(layers=[0], positions=[5], strength=1),
            ):
                with intervene(llama, edit):
                    assert torch.equal(llama(ids).logits, plain)
    finally:
        llama.set_attn_implementation(before)


def test_leaving_the_context_restores_the_model_also_after_an_exception(any_model, token_ids):
    ids = torch.from_numpy(token_ids)
    implementation = any_model.config._attn_implementation
    with torch.no_grad():
        plain = any_model(ids).logits
    with (
        pytest.raises(RuntimeError, match="inside"),
        intervene(any_model, NormControl(layers=[0], positions=[3], strength=9)),
    ):
        raise RuntimeError("inside")
    with torch.no_grad():
        assert torch.equal(any_model(ids).logits, plain)
    assert any_model.config._attn_implementation == implementation


def test_variance_amplification_scales_the_deviation_and_keeps_the_mean(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    before, _ = run(llama, ids)
    after, _ = run(llama, ids, VarianceAmplification(layers=[0], positions=[5], strength=3.0))
    plain, edited = before.aggregation[0][:, :, 5], after.aggregation[0][:, :, 5]
    torch.testing.assert_close(edited.mean(0), plain.mean(0))
    torch.testing.assert_close(edited.var(0), 9 * plain.var(0))
    assert torch.equal(after.aggregation[0][:, :, :5], before.aggregation[0][:, :, :5])


def test_norm_control_multiplies_the_aggregation(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    before, _ = run(llama, ids)
    after, _ = run(llama, ids, NormControl(layers=[0], positions=[5], strength=3.0))
    assert torch.equal(after.aggregation[0][:, :, 5], 3 * before.aggregation[0][:, :, 5])


def rows(model, ids, *edits, layer=0, position=5):
    return run(model, ids, *edits)[0].aggregation[layer][:, :, position]


def test_the_grid_contains_amplification_and_norm_control(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    place = {"layers": [0], "positions": [5]}
    plain = rows(llama, ids)
    mean = plain.mean(0)
    torch.testing.assert_close(
        rows(llama, ids, MeanAndDeviation(**place, strength=3.0, mean_factor=0.5)), 0.5 * mean + 3 * (plain - mean)
    )
    amplified = VarianceAmplification(**place, strength=3.0)
    scaled = NormControl(**place, strength=3.0)
    assert torch.equal(
        rows(llama, ids, MeanAndDeviation(**place, strength=3.0, mean_factor=1.0)), rows(llama, ids, amplified)
    )
    assert torch.equal(
        rows(llama, ids, MeanAndDeviation(**place, strength=3.0, mean_factor=3.0)), rows(llama, ids, scaled)
    )


def test_random_directions_add_as_much_as_amplification_elsewhere(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    edit = RandomDirections(layers=[0], positions=[5], strength=4.0)
    plain = rows(llama, ids)
    added = rows(llama, ids, edit) - plain
    torch.testing.assert_close(added.norm(dim=-1), 3 * (plain - plain.mean(0)).norm(dim=-1))
    cosines = torch.nn.functional.cosine_similarity(added, plain - plain.mean(0), dim=-1)
    assert cosines.abs().max() < 0.999  # not the direction of the deviation
    assert torch.equal(rows(llama, ids, edit) - plain, added)  # the same in every run


def test_mean_shift_adds_no_variance(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    plain = rows(llama, ids)
    shifted = rows(llama, ids, MeanShift(layers=[0], positions=[5], strength=4.0))
    torch.testing.assert_close(shifted.var(0), plain.var(0), rtol=1e-3, atol=1e-6)
    spread = (plain - plain.mean(0)).square().sum(-1).mean(0).sqrt()
    torch.testing.assert_close((shifted - plain).norm(dim=-1), (3 * spread).expand(len(plain), -1))


def test_shuffled_deviations_keep_mean_and_variance_and_change_the_content(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    plain = rows(llama, ids)
    shuffled = rows(llama, ids, ShuffledDeviations(layers=[0], positions=[5], strength=2.0))
    torch.testing.assert_close(shuffled.mean(0), plain.mean(0))
    torch.testing.assert_close(shuffled.var(0), 4 * plain.var(0))
    torch.testing.assert_close(shuffled[0], 2 * plain[1] - plain.mean(0))


def test_value_averaging_takes_the_mean_of_first_values_of_a_group_alone(llama, token_ids):
    ids = torch.from_numpy(token_ids)[:5]
    plain = rows(llama, ids, position=0)
    edit = ValueAveraging(layers=[0], positions=[0], strength=2)
    averaged = rows(llama, ids, edit, position=0)
    torch.testing.assert_close(averaged[0], plain[:2].mean(0))
    torch.testing.assert_close(averaged[1], averaged[0])
    for number, others in ((2, [2, 3]), (3, [3, 4]), (4, [4, 2])):  # the last group has what is left over
        torch.testing.assert_close(averaged[number], plain[others].mean(0))
    assert edit.units(5).tolist() == [0, 0, 2, 2, 2]
    assert VarianceAmplification(layers=[0], positions=[0], strength=2).units(3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "olmo2"])
def test_amplification_after_the_output_projection_equals_that_before_it(name, token_ids):
    """W_O is linear, with a bias or without; what is added to the residual stream may lie behind a norm, which is not."""
    model, ids = build(name), torch.from_numpy(token_ids)
    place = {"layers": [0, 1], "positions": [4], "strength": 3.0}
    before, inside, added = (
        run(model, ids, VarianceAmplification(**place, site=site))[1]
        for site in ("value_aggregation", "output_projection_output", "attention_output")
    )
    torch.testing.assert_close(inside, before, rtol=1e-4, atol=1e-5)
    assert torch.allclose(added, before, rtol=1e-3, atol=1e-4) == (name in ("llama", "gpt2"))


def test_edits_of_module_sites_change_what_they_name(any_model, token_ids):
    architecture = read_architecture(any_model)
    ids = torch.from_numpy(token_ids)

    def seen(site, *edits):
        values = {}
        with (
            intervene(any_model, *edits),
            watch_sites(architecture, [site], lambda layer, _, x: values.__setitem__(layer, x.clone())),
            torch.no_grad(),
        ):
            any_model(ids)
        return {layer: value.reshape(*ids.shape, -1) for layer, value in values.items()}

    edits = {
        "attention_output": VarianceAmplification(layers=[1], positions=[4], strength=3.0, site="attention_output"),
        "residual": DominatingDims(dims={1: [7]}, positions=[4], to="zero"),
    }
    if "ffn_activation" in architecture.places[1]:
        edits["ffn_activation"] = SuperNeuronAblation(neurons={1: [3, 5]}, positions=[4])
    for site, edit in edits.items():
        plain, edited = seen(site), seen(site, edit)
        others = [k for k in range(ids.shape[1]) if k != 4]
        assert torch.equal(edited[1][:, others[:4]], plain[1][:, others[:4]])
        own, new = plain[1][:, 4], edited[1][:, 4]
        if site == "attention_output":
            torch.testing.assert_close(new, own.mean(0) + 3 * (own - own.mean(0)), rtol=1e-4, atol=1e-5)
        else:
            numbers = [7] if site == "residual" else [3, 5]
            expected = own.clone()
            expected[:, numbers] = 0
            assert torch.equal(new, expected)


def test_a_site_that_is_not_there_is_told_in_one_sentence(token_ids):
    with (
        pytest.raises(SinkoriginError, match="ffn_activation of layer 0 cannot be edited, because .*; choose another"),
        intervene(build("mixtral"), SuperNeuronAblation(neurons={0: [1]}, positions=[0])),
    ):
        pass


def test_contexts_nest_and_apply_outer_first(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    before, _ = run(llama, ids)
    with intervene(llama, NormControl(layers=[0], positions=[5], strength=2.0)):
        inner, _ = run(llama, ids, NormControl(layers=[0], positions=[5], strength=3.0))
    torch.testing.assert_close(inner.aggregation[0][:, :, 5], 6 * before.aggregation[0][:, :, 5])


def test_edits_work_while_generating_with_a_cache(llama, token_ids):
    ids = torch.from_numpy(token_ids[:1])
    edit = NormControl(layers=[0], positions=[13], strength=30.0)  # beyond the prompt: the second new token
    with intervene(llama, edit):
        cached = llama.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True)
        uncached = llama.generate(ids, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(cached, uncached)


def test_layers_are_written_as_runs():
    assert layer_runs([0, 1, 2, 5, 7, 8]) == ["0-2", "5", "7-8"]


def test_module_edits_work_while_generating_with_a_cache(llama, token_ids):
    ids = torch.from_numpy(token_ids[:1])
    edit = DominatingDims(dims={0: list(range(16))}, positions=[3, 13], to="zero")
    with intervene(llama, edit):
        cached = llama.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True)
        uncached = llama.generate(ids, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(cached, uncached)


def test_edits_that_mix_sequences_say_when_there_is_only_one(llama, token_ids):
    place = {"layers": [0], "positions": [5]}
    for edit, sentence in (
        (
            VarianceAmplification(**place, strength=2.0),
            "VarianceAmplification needs a mean over sequences, but the batch has",
        ),
        (MeanShift(**place, strength=2.0), "MeanShift needs a mean over sequences, but the batch has one; run several"),
        (
            DominatingDims(dims={0: [1]}, positions=[5]),
            "DominatingDims needs a mean over sequences, but the batch has one",
        ),
        (
            ValueAveraging(**place, strength=3),
            "ValueAveraging mixes 3 sequences of a batch, but this one has 1; run more",
        ),
    ):
        with pytest.raises(SinkoriginError, match=sentence):
            run(llama, torch.from_numpy(token_ids[:1]), edit)
    with pytest.raises(SinkoriginError, match="a strength is inf; choose a finite number"):
        NormControl(**place, strength=float("inf"))


def test_a_mask_leaves_learned_sinks_their_share(token_ids):
    ids = torch.from_numpy(token_ids)
    plain, _ = run(build("gpt_oss"), ids)
    masked, _ = run(build("gpt_oss"), ids, Mask(layers=[0], positions=[5]))
    own, before = masked.weights[0][:, :, 5], plain.weights[0][:, :, 5]
    assert torch.count_nonzero(own) == own[..., 5].numel()  # no other key
    left, was = 1 - own.sum(-1), 1 - before.sum(-1)
    torch.testing.assert_close(own[..., 5] / left, before[..., 5] / was, rtol=1e-3, atol=1e-5)  # as the logits have it


# ---- padded batches


def padded(ids, lengths, side):
    """A batch in which sequence n has its first ``lengths[n]`` tokens, and its attention mask."""
    width = max(lengths)
    rows, mask = torch.zeros(len(lengths), width, dtype=torch.long), torch.zeros(len(lengths), width, dtype=torch.long)
    for number, length in enumerate(lengths):
        place = slice(width - length, width) if side == "left" else slice(0, length)
        rows[number, place], mask[number, place] = ids[number, :length], 1
    return {"input_ids": rows, "attention_mask": mask}


EDITS = [
    Mask(layers=[0, 1], positions=[2, 5]),
    NormControl(layers=[0], positions=[5], strength=9.0),
    DominatingDims(dims={1: [7]}, positions=[5], to="zero"),
]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.kind)
def test_positions_count_from_the_first_token_of_each_padded_sequence(llama, token_ids, side, edit):
    ids, lengths = torch.from_numpy(token_ids), [12, 9, 10]
    architecture = read_architecture(llama)
    batch = padded(ids, lengths, side)
    with torch.no_grad(), intervene(architecture, edit):
        logits = llama(**batch).logits
        alone = [llama(ids[number : number + 1, :length]).logits[0] for number, length in enumerate(lengths)]
    with torch.no_grad():
        plain = llama(**batch).logits
    assert not torch.allclose(logits, plain, atol=1e-3)
    for number, one in enumerate(alone):
        torch.testing.assert_close(logits[number][batch["attention_mask"][number] == 1], one, rtol=1e-3, atol=1e-4)


def test_a_mean_over_a_padded_batch_is_over_the_same_position_of_every_sequence(llama, token_ids):
    ids, lengths = torch.from_numpy(token_ids), [12, 9, 10]
    amplify = VarianceAmplification(layers=[0], positions=[5], strength=3.0)
    with torch.no_grad(), intervene(llama, amplify):
        logits = llama(**padded(ids, lengths, "left")).logits
        alike = llama(ids[:3]).logits
    for number, length in enumerate(lengths):
        torch.testing.assert_close(logits[number, 12 - length :], alike[number, :length], rtol=1e-3, atol=1e-4)


def test_a_left_padded_batch_is_edited_while_it_generates(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    edit = NormControl(layers=[0], positions=[3, 11], strength=30.0)  # the second is generated at different steps
    settings = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    with intervene(llama, edit):
        together = llama.generate(**padded(ids, [12, 9], "left"), **settings)
        cut = llama.generate(ids[1:2, :9], **settings)
    assert torch.equal(together[1, 3:], cut[0])
    with (
        pytest.raises(
            SinkoriginError, match="position 11 is in 1 of 2 sequences of this pass, and a mean over sequences"
        ),
        intervene(llama, VarianceAmplification(layers=[0], positions=[11], strength=2.0)),
    ):
        llama.generate(**padded(ids, [12, 9], "left"), **settings)


def test_padding_that_cannot_be_counted_or_is_edited_is_told_in_one_sentence(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    for edit, change, sentence in (
        (Mask(layers=[0], positions=[10]), None, "Mask: position 10 is padding in sequence 1, which has 9 tokens"),
        (Mask(layers=[0], positions=[5]), 4, "attention_mask of sequence 0 hides tokens between others"),
    ):
        batch = padded(ids, [12, 9], "right")
        if change is not None:
            batch["attention_mask"][0, change] = 0
        with pytest.raises(SinkoriginError, match=sentence), torch.no_grad(), intervene(llama, edit):
            llama(**batch)
    assert not llama._forward_pre_hooks and not llama.model._forward_pre_hooks


# ---- what is not there


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Mask(layers=[0], positions=[-1]), "Mask has position -1; positions are counted from 0"),
        (lambda: Mask(layers=[0], positions=10), "positions of Mask is 10; write a list of numbers"),
        (
            lambda: Mask(layers=[-1], positions=[1]),
            "layers has layer -1, but model LlamaForCausalLM has 3 layers, 0 to 2",
        ),
        (lambda: NormControl(layers=[3], positions=[1], strength=1.0), "layers has layer 3, but model"),
        (
            lambda: Mask(layers=[0], positions=[5, 99]),
            "Mask: position 99 was in no pass, the longest had 12 tokens, 0 to 11",
        ),
        (
            lambda: NormControl(layers=[0], positions=[1], strength=2.0, site="ffn"),
            "ffn of layer 0 cannot be edited, because the sites to edit there are value_aggregation, residual,",
        ),
        (
            lambda: SuperNeuronAblation(neurons={1: [3, 48]}, positions=[0]),
            "SuperNeuronAblation: layer 1 has no number 48 at the site ffn_activation, which is 48 wide, 0 to 47",
        ),
        (
            lambda: DominatingDims(dims={1: [-1]}, positions=[0], to="zero"),
            "layer 1 has no number -1 at the site residual",
        ),
    ],
)
def test_what_is_not_there_is_told_in_one_sentence(llama, token_ids, make, sentence):
    with pytest.raises(SinkoriginError, match=sentence):
        run(llama, torch.from_numpy(token_ids), make())


def test_a_block_without_a_pass_or_with_another_error_says_nothing_of_positions(llama, token_ids):
    with intervene(llama, Mask(layers=[0], positions=[99])):
        pass
    with pytest.raises(RuntimeError, match="other"), intervene(llama, Mask(layers=[0], positions=[99])):
        llama(torch.from_numpy(token_ids))
        raise RuntimeError("other")


def test_a_known_architecture_is_not_probed_again(llama, token_ids, monkeypatch):
    from sinkorigin.interventions import context

    ids, edit = torch.from_numpy(token_ids), NormControl(layers=[0], positions=[5], strength=9.0)
    _, expected = run(llama, ids, edit)
    with intervene(llama) as architecture:
        pass
    monkeypatch.setattr(context, "read_architecture", None)
    with intervene(architecture, edit), torch.no_grad():
        logits = llama(ids).logits
    assert torch.equal(logits, expected)
