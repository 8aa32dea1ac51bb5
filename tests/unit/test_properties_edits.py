"""Edits of generated vectors equal their formulas written out, and in a model they reach nothing before what they edit."""

from functools import cache

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from architectures import build
from sinkorigin.interventions.context import intervene
from sinkorigin.interventions.kind import Target, random_directions
from sinkorigin.interventions.kinds.blind_to_first import BlindToFirst
from sinkorigin.interventions.kinds.dominating_dims import DominatingDims
from sinkorigin.interventions.kinds.mask import Mask
from sinkorigin.interventions.kinds.mean_and_deviation import MeanAndDeviation
from sinkorigin.interventions.kinds.mean_shift import MeanShift
from sinkorigin.interventions.kinds.norm_control import NormControl
from sinkorigin.interventions.kinds.other_token_only import OtherTokenOnly
from sinkorigin.interventions.kinds.random_directions import RandomDirections
from sinkorigin.interventions.kinds.shuffled_deviations import ShuffledDeviations
from sinkorigin.interventions.kinds.super_neuron_ablation import SuperNeuronAblation
from sinkorigin.interventions.kinds.value_averaging import ValueAveraging
from sinkorigin.interventions.kinds.variance_amplification import VarianceAmplification
from sinkorigin.interventions.kinds.variance_matching import VarianceMatching
from sinkorigin.interventions.kinds.window import Window

LAYERS, LENGTH = 3, 8
AT = Target(layer=1, position=4, number=0)
strengths = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 4.0])
vectors_of_a_batch = arrays(
    np.float64,
    st.tuples(st.integers(2, 6), st.integers(1, 3), st.integers(1, 4)),
    elements=st.integers(-80, 80).map(lambda number: number / 8),
)


def edited(edit, vectors) -> np.ndarray:
    before = torch.from_numpy(vectors)
    found = edit.edited(before.clone(), AT)
    return found.expand_as(before).numpy()


def at(kind, **parameters):
    return kind(
        **({"layers": [1]} if kind not in (VarianceMatching, SuperNeuronAblation, DominatingDims) else {}),
        positions=[4],
        **parameters,
    )


@given(vectors_of_a_batch, strengths, strengths)
def test_edits_of_mean_and_deviation_are_their_formulas(vectors, strength, mean_factor):
    mean = np.mean(vectors, axis=0)
    deviation = vectors - mean
    expected = {
        VarianceAmplification: mean + strength * deviation,
        NormControl: strength * (mean + deviation),
        ShuffledDeviations: mean + strength * np.concatenate([deviation[1:], deviation[:1]]),
    }
    for kind, formula in expected.items():
        np.testing.assert_allclose(edited(at(kind, strength=strength), vectors), formula, atol=1e-12)
    grid = edited(at(MeanAndDeviation, strength=strength, mean_factor=mean_factor), vectors)
    np.testing.assert_allclose(grid, mean_factor * mean + strength * deviation, atol=1e-12)
    np.testing.assert_allclose(
        edited(at(VarianceMatching, strengths={1: strength}), vectors), mean + strength * deviation, atol=1e-12
    )


@given(vectors_of_a_batch, strengths, st.integers(0, 3), st.integers(0, 5))
def test_controls_add_as_much_as_amplification_in_directions_of_their_seed(vectors, strength, seed, first):
    there = Target(layer=1, position=4, number=0, first_sequence=first)
    deviation = vectors - vectors.mean(axis=0)
    added = (
        at(RandomDirections, strength=strength, seed=seed).edited(torch.from_numpy(vectors), there).numpy() - vectors
    )
    np.testing.assert_allclose(
        np.linalg.norm(added, axis=-1), abs(strength - 1) * np.linalg.norm(deviation, axis=-1), atol=1e-9
    )
    for number in range(len(vectors)):
        unit = np.random.default_rng((seed, 1, 4, first + number)).standard_normal(vectors.shape[1:])
        unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
        size = (strength - 1) * np.linalg.norm(deviation[number], axis=-1, keepdims=True)
        np.testing.assert_allclose(added[number], size * unit, atol=1e-9)
    shift = at(MeanShift, strength=strength, seed=seed).edited(torch.from_numpy(vectors), there).numpy() - vectors
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-9)  # no variance
    spread = np.sqrt(np.mean(np.sum(deviation**2, axis=-1), axis=0))
    np.testing.assert_allclose(np.linalg.norm(shift[0], axis=-1), abs(strength - 1) * spread, atol=1e-9)
    np.testing.assert_allclose(
        shift[0], (strength - 1) * spread[:, None] * random_directions(vectors.shape[1:], seed, 1, 4), atol=1e-9
    )


@given(vectors_of_a_batch, strengths, strengths)
def test_edits_one_after_the_other_multiply(vectors, first, second):
    for kind in (VarianceAmplification, NormControl):
        both = edited(at(kind, strength=second), edited(at(kind, strength=first), vectors))
        np.testing.assert_allclose(both, edited(at(kind, strength=first * second), vectors), atol=1e-9)
    turns = vectors
    for _ in range(len(vectors)):
        turns = edited(at(ShuffledDeviations, strength=1.0), turns)
    np.testing.assert_array_equal(turns, vectors)  # everybody has had everybody's


@given(vectors_of_a_batch, st.integers(2, 6))
def test_averaging_mixes_a_group_alone(vectors, count):
    assume(count <= len(vectors))
    edit = at(ValueAveraging, strength=count)
    found, units = edited(edit, vectors), edit.units(len(vectors))
    groups = len(vectors) // count
    expected_units = [min(n // count, groups - 1) * count for n in range(len(vectors))]
    assert units.tolist() == expected_units and edit.mixes(count) == count
    for number in range(len(vectors)):
        members = [n for n in range(len(vectors)) if units[n] == units[number]]
        start = members.index(number)
        taken = [members[(start + step) % len(members)] for step in range(count)]
        np.testing.assert_allclose(found[number], vectors[taken].mean(axis=0), atol=1e-12)


@given(vectors_of_a_batch, st.data(), st.sampled_from(["mean", "zero"]))
def test_numbers_that_an_edit_does_not_name_stay(vectors, data, to):
    width = vectors.shape[-1]
    numbers = sorted(data.draw(st.sets(st.integers(0, width - 1), min_size=1)))
    others = [n for n in range(width) if n not in numbers]
    silent = edited(at(SuperNeuronAblation, neurons={1: numbers}), vectors)
    flat = edited(at(DominatingDims, dims={1: numbers}, to=to), vectors)
    for found in (silent, flat):
        np.testing.assert_array_equal(found[..., others], vectors[..., others])
    assert not silent[..., numbers].any()
    expected = np.zeros_like(vectors) if to == "zero" else np.broadcast_to(vectors.mean(axis=0), vectors.shape)
    np.testing.assert_allclose(flat[..., numbers], expected[..., numbers], atol=1e-12)


@given(st.integers(2, 30), st.integers(1, 31))
def test_edits_of_attention_name_the_keys_that_stay(position, count):
    assume(count <= position + 1)
    assert list(at(Mask).visible(position)) == [position]
    assert list(at(OtherTokenOnly).visible(position)) == [position - 1]
    assert list(at(BlindToFirst).visible(position)) == list(range(position + 1))[1:]
    assert list(at(Window, strength=count).visible(position)) == list(range(position + 1))[-count:]


# ---- in a model

_IDS = torch.from_numpy(np.random.default_rng(0).integers(3, 96, size=(4, LENGTH)))
layers = st.sets(st.integers(0, LAYERS - 1), min_size=1)
positions = st.sets(st.integers(2, LENGTH - 1), min_size=1, max_size=3)


def passed(*edits) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits (N, T, V), and the residual (N, T, d) that leaves the embedding and each layer, under edits."""
    model = build("llama")
    with intervene(model, *edits), torch.no_grad():
        found = model(_IDS, output_hidden_states=True)
    return found.logits, list(found.hidden_states)


UNEDITED = cache(passed)


@st.composite
def an_edit(draw):
    where = {"layers": draw(layers), "positions": draw(positions)}
    strength = draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    kind = draw(
        st.sampled_from(
            [
                Mask,
                OtherTokenOnly,
                BlindToFirst,
                Window,
                VarianceAmplification,
                NormControl,
                RandomDirections,
                MeanShift,
                ShuffledDeviations,
                ValueAveraging,
                MeanAndDeviation,
            ]
        )
    )
    if kind in (Mask, OtherTokenOnly, BlindToFirst):
        return kind(**where)
    if kind is Window:
        return kind(**where, strength=draw(st.integers(1, 3)))
    if kind is ValueAveraging:
        return kind(**where, strength=draw(st.integers(1, 4)))
    more = {"mean_factor": draw(st.sampled_from([0.5, 1.0, 2.0]))} if kind is MeanAndDeviation else {}
    site = {"site": draw(st.sampled_from(["value_aggregation", "attention_output"]))}
    return kind(**where, **site, strength=strength, **more)


@given(an_edit())
def test_nothing_before_an_edited_position_and_below_an_edited_layer_changes(edit):
    logits, residuals = passed(edit)
    plain, unedited = UNEDITED()
    first = min(edit.positions)
    assert torch.equal(logits[:, :first], plain[:, :first])
    for number, (found, before) in enumerate(zip(residuals[:-1], unedited[:-1], strict=True)):  # the last is normed
        if number <= min(edit.layers):
            assert torch.equal(found, before)
        assert torch.equal(found[:, :first], before[:, :first])
    if edit.changes_nothing:
        assert torch.equal(logits, plain)
    elif len(edit.layers) == 1 and getattr(edit, "strength", 2) not in (1, 1.0) and edit.layers[0] + 1 < LAYERS:
        # of one layer: other positions of its output stay too, and the edited ones change
        after, before = residuals[edit.layers[0] + 1], unedited[edit.layers[0] + 1]
        others = [n for n in range(LENGTH) if n not in edit.positions]
        assert torch.equal(after[:, others], before[:, others])
        changed = [not torch.equal(after[:, n], before[:, n]) for n in edit.positions]
        assert all(changed) or (isinstance(edit, Window) and edit.strength > min(edit.positions))
    assert torch.equal(passed()[0], plain)  # and nothing stays behind


@settings(max_examples=settings().max_examples // 5)  # five passes each
@given(layers, positions, st.sampled_from([0.5, 2.0]))
def test_edits_of_several_layers_or_positions_are_those_of_each_together(which, where, strength):
    together, _ = passed(NormControl(layers=which, positions=where, strength=strength))
    by_layer, _ = passed(*(NormControl(layers=[layer], positions=where, strength=strength) for layer in which))
    by_position, _ = passed(*(NormControl(layers=which, positions=[position], strength=strength) for position in where))
    for apart in (by_layer, by_position):
        torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-5)
    twice, _ = passed(*[NormControl(layers=which, positions=where, strength=strength)] * 2)
    squared, _ = passed(NormControl(layers=which, positions=where, strength=strength**2))
    torch.testing.assert_close(twice, squared, rtol=1e-5, atol=1e-5)
