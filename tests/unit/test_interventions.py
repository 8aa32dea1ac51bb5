"""The edits do what their formulas say, exactly, and leave nothing behind."""

import numpy as np
import polars as pl
import pytest
import torch

from sinkorigin.architecture import read_architecture
from sinkorigin.attention import Tap
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions import (
    Mask,
    NormControl,
    VarianceAmplification,
    intervene,
    layer_text,
    measure,
    running_means,
)


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


@pytest.mark.parametrize("edit", [VarianceAmplification, NormControl])
def test_strength_one_changes_no_bit(any_model, token_ids, edit):
    ids = torch.from_numpy(token_ids)
    with torch.no_grad():
        plain = any_model(ids).logits
    _, logits = run(any_model, ids, edit(layers=[0, 1], positions=[5], strength=1.0))
    assert torch.equal(logits, plain)


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


def test_contexts_nest_and_apply_outer_first(llama, token_ids):
    ids = torch.from_numpy(token_ids)
    before, _ = run(llama, ids)
    with intervene(llama, NormControl(layers=[0], positions=[5], strength=2.0)):
        inner, _ = run(llama, ids, NormControl(layers=[0], positions=[5], strength=3.0))
    torch.testing.assert_close(inner.aggregation[0][:, :, 5], 6 * before.aggregation[0][:, :, 5])


def test_means_of_the_edited_model_do_not_depend_on_the_batch(llama, token_ids):
    architecture = read_architecture(llama)
    edit = VarianceAmplification(layers=[0, 1, 2], positions=[3, 5], strength=4.0)
    whole = running_means(architecture, token_ids, edit, batch=6)
    parts = running_means(architecture, token_ids, edit, batch=2)
    watch, _ = run(llama, torch.from_numpy(token_ids), edit)  # takes the mean of the one batch that holds all
    for layer in (0, 1, 2):
        torch.testing.assert_close(parts[layer], whole[layer], rtol=1e-5, atol=1e-7)
        running = watch.aggregation[layer][:, :, [3, 5]].mean(0).transpose(0, 1)
        torch.testing.assert_close(running.double(), whole[layer], rtol=1e-4, atol=1e-5)


def test_edits_work_while_generating_with_a_cache(llama, token_ids):
    ids = torch.from_numpy(token_ids[:1])
    edit = NormControl(layers=[0], positions=[13], strength=30.0)  # beyond the prompt: the second new token
    with intervene(llama, edit):
        cached = llama.generate(ids, max_new_tokens=6, do_sample=False, use_cache=True)
        uncached = llama.generate(ids, max_new_tokens=6, do_sample=False, use_cache=False)
    assert torch.equal(cached, uncached)


def test_baseline_equals_strength_one_and_the_attention_matrix(llama, token_ids, tmp_path):
    architecture = read_architecture(llama)
    common = {"model": "m", "targets": [5], "batch": 4}
    measure(
        architecture, token_ids, tmp_path / "a.parquet", intervention="baseline", kind="baseline", strength=None,
        layers=[], **common,
    )  # fmt: skip
    measure(
        architecture, token_ids, tmp_path / "b.parquet", intervention="n", kind="norm_control", strength=1.0,
        layers=[0, 1], **common,
    )  # fmt: skip
    columns = ["sequence", "layer", "head", "score", "first_score", "norm", "dominance_ratio"]
    baseline, one = (pl.read_parquet(tmp_path / f"{n}.parquet").sort("sequence", "layer", "head") for n in "ab")
    assert baseline.select(columns).equals(one.select(columns))
    watch, _ = run(llama, torch.from_numpy(token_ids))
    weights = torch.stack([watch.weights[layer] for layer in range(3)], dim=1).numpy()  # (N, L, H, T, T)
    np.testing.assert_allclose(baseline["score"], weights[..., 6:, 5].mean(-1).reshape(-1), rtol=1e-5)
    np.testing.assert_allclose(baseline["first_score"], weights[..., 1:, 0].mean(-1).reshape(-1), rtol=1e-5)


def test_wrong_layers_and_targets_are_told_in_one_sentence(llama, token_ids, tmp_path):
    architecture = read_architecture(llama)
    common = {"model": "m", "intervention": "i", "kind": "mask", "strength": 1.0, "batch": 4}
    with pytest.raises(SinkoriginError, match="layer 7, but model m has 3 layers, 0 to 2; choose"):
        measure(architecture, token_ids, tmp_path / "x.parquet", layers=[7], targets=[5], **common)
    with pytest.raises(SinkoriginError, match="target position 11 has no later query .* choose"):
        measure(architecture, token_ids, tmp_path / "x.parquet", layers=[0], targets=[11], **common)
    assert list(tmp_path.iterdir()) == []


def test_layers_are_written_as_runs():
    assert layer_text([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
