"""Every captured site recombines to what the model itself computes, in many architectures."""

import pytest
import torch
import transformers

from architectures import build
from sinkorigin.architecture import MODULE_SITES, read_architecture
from sinkorigin.capture import watch_sites
from sinkorigin.errors import SinkoriginError

SITES = (*MODULE_SITES, "value_aggregation", "query", "key", "attention")


def capture(architecture, ids):
    seen = {}
    with watch_sites(architecture, SITES, lambda layer, site, values: seen.__setitem__((layer, site), values.clone())):
        with torch.no_grad():
            logits = architecture.model(ids).logits
    return seen, logits


def relative(left, right):
    return ((left - right).abs().max() / right.abs().max()).item()


def test_capturing_changes_no_logit(any_model, token_ids):
    ids = torch.from_numpy(token_ids)
    with torch.no_grad():
        plain = any_model(ids).logits
    _, logits = capture(read_architecture(any_model), ids)
    assert torch.equal(logits, plain)


def test_sites_recombine_to_the_residual_stream(any_model, token_ids):
    architecture = read_architecture(any_model)
    seen, _ = capture(architecture, torch.from_numpy(token_ids))
    for layer in range(architecture.layers):
        before = seen[layer - 1, "residual"]
        added = sum(seen[layer, site].reshape(before.shape) for site in ("attention_output", "ffn_output"))
        assert relative(before + added, seen[layer, "residual"]) < 1e-5


def test_aggregation_through_output_projection_is_what_attention_returns(any_model, token_ids):
    architecture = read_architecture(any_model)
    outputs = {}
    handles = [
        module.register_forward_hook(lambda _m, _a, out, layer=layer: outputs.__setitem__(layer, out[0].clone()))
        for layer, module in architecture.attention.items()
    ]
    seen, _ = capture(architecture, torch.from_numpy(token_ids))
    for handle in handles:
        handle.remove()
    for layer, projections in enumerate(architecture.projections):
        with torch.no_grad():
            projected = projections["output"].module(seen[layer, "value_aggregation"])
        assert relative(projected, outputs[layer]) < 1e-5


def test_ffn_activation_through_the_down_projection_is_the_ffn(any_model, token_ids):
    architecture = read_architecture(any_model)
    seen, _ = capture(architecture, torch.from_numpy(token_ids))
    post_norm = any_model.config.model_type in {"gemma2", "gemma3_text", "olmo2"}
    for layer in range(architecture.layers):
        if "ffn_activation" in architecture.missing[layer]:
            assert any_model.config.model_type in {"mixtral", "qwen3_moe", "gpt_oss"}
            continue
        down = architecture.places[layer]["ffn_activation"].module
        with torch.no_grad():
            output = down(seen[layer, "ffn_activation"])
        assert output.shape[-1] == seen[layer, "residual"].shape[-1]
        if not post_norm:
            assert relative(output.reshape(-1), seen[layer, "ffn_output"].reshape(-1)) < 1e-5


def test_attention_rows_sum_to_one_unless_the_model_learns_a_sink_logit(any_model, token_ids):
    architecture = read_architecture(any_model)
    rows = []
    with watch_sites(architecture, [], None, lambda layer, query, key, weights: rows.append(weights.sum(-1))):
        architecture.forward(torch.from_numpy(token_ids))
    assert len(rows) == architecture.layers
    for total in rows:
        if any_model.config.model_type == "gpt_oss":
            assert (total < 1).all()
        else:
            torch.testing.assert_close(total, torch.ones_like(total))


def test_a_class_outside_the_attention_interface_is_refused_in_one_sentence():
    config = transformers.BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=4)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(SinkoriginError, match="model bloom: BloomForCausalLM .* choose a model class"):
        read_architecture(model, "bloom")


def test_a_site_that_a_model_lacks_is_said_with_the_reason():
    architecture = read_architecture(build("mixtral"))
    for missing in architecture.missing:
        assert "mixture of experts" in missing["ffn_activation"]
        assert "mixture of experts" in missing["down"]


def test_the_neuron_matrices_make_the_activation(any_model, token_ids):
    """act(gate) ⊙ up of the matrices found is what enters the down-projection, act(up) where there is no gate."""
    architecture = read_architecture(any_model)
    seen, _ = capture(architecture, torch.from_numpy(token_ids))
    for layer, projections in enumerate(architecture.projections):
        if "down" not in projections:
            continue
        into = seen[layer, "ffn_input"].reshape(-1, seen[layer, "residual"].shape[-1])
        activation = seen[layer, "ffn_activation"].reshape(len(into), -1)

        def through(role, into=into, projections=projections):
            projection = projections[role]
            bias = getattr(projection.module, "bias", None)
            bias = 0 if bias is None else bias.detach()[projection.start : projection.stop]
            return into @ projection.weight().T + bias

        act = next(m for name, m in architecture.blocks[layer].named_modules() if name.split(".")[-1] in ACTIVATIONS)
        expected = act(through("gate")) * through("up") if "gate" in projections else act(through("up"))
        assert ("gate" in projections) != ("gate" in architecture.missing[layer])
        assert relative(expected, activation) < 1e-5
        down = projections["down"].weight()
        bias = getattr(projections["down"].module, "bias", None)
        written = activation @ down.T + (0 if bias is None else bias.detach())
        with torch.no_grad():
            assert (
                relative(written, projections["down"].module(seen[layer, "ffn_activation"]).reshape(written.shape))
                < 1e-5
            )


ACTIVATIONS = {"act_fn", "act", "activation_fn"}


def test_the_norm_before_the_attention_is_told_by_what_it_does(any_model):
    layer_norm = {"cohere", "gpt2", "gpt_neox", "opt", "phi"}
    kind = any_model.config.model_type
    expected = "LayerNorm" if kind in layer_norm else None if kind == "olmo2" else "RMSNorm"
    assert set(read_architecture(any_model).norms) == {expected}


def test_sites_are_found_where_the_residual_stream_is_massive(token_ids):
    """A dim of a million rounds away what a layer adds to it, which must not hide the layer's other dims."""
    import copy

    model = copy.deepcopy(build("llama"))
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 3] = 1e6
    architecture = read_architecture(model)
    assert architecture.missing == [{}, {}, {}]
    seen, _ = capture(architecture, torch.from_numpy(token_ids))
    assert {layer for layer, site in seen if site == "ffn_output"} == {0, 1, 2}
