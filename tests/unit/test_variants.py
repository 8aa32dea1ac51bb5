"""Attention variants are what they say, whatever computes them, and survive being saved."""

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from harness.code_version import Code
from harness.config.variants import VARIANTS
from sinkorigin.activations.capture import watch_sites
from sinkorigin.errors import SinkoriginError
from sinkorigin.models.weights import register_variant
from sinkorigin.pretraining.model import build_model
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.attention import Tap
from sinkorigin.tables import write_manifest
from sinkorigin.variants.declaration import declared
from sinkorigin.variants.gated_llama import GatedProjection
from sinkorigin.variants.headwise_rmsnorm_llama import HeadwiseNormProjection, HeadwiseRMSNormLlamaForCausalLM
from sinkorigin.variants.sigmoid import sigmoid
from sinkorigin.variants.softmax_off_by_one import softmax_off_by_one
from sinkorigin.variants.softpick import softpick

ROOT = Path(__file__).parents[2]
SIZE = {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "ffn_width": 24, "length": 8, "tied_embeddings": True}
HEADWISE_OPTIONS = [
    {"scale": "per_head", "bias": True, "scale_init": 1.0},
    {"scale": "shared", "bias": True, "scale_init": 0.1},
    {"scale": "shared", "bias": False, "scale_init": 1.0},
    {"scale": "none", "bias": True, "scale_init": 0.5},
    {"scale": "none", "bias": False, "scale_init": 1.0},
]
CASES = [
    *(("headwise_rmsnorm", options) for options in HEADWISE_OPTIONS[:2]),
    ("sigmoid", {"bias": "log_visible"}),
    ("sandwich_norm", {"scale_init": 0.5}),
    *((name, {}) for name in VARIANTS),
]
each_variant = pytest.mark.parametrize(("variant", "options"), CASES, ids=str)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # more only adds overhead at this size
    yield
    torch.set_num_threads(before)


def build(variant, options=None, **changes):
    """A tiny model whose every parameter is random, so that attention is far from uniform and nothing is at its start."""
    model = build_model(SIZE, vocabulary=40, variant=variant, seed=0, options=options, **changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return model


IDS = torch.randint(1, 40, (2, 8), generator=torch.Generator().manual_seed(1))  # 0 is taken for padding by generate


# ---- the functions


def rows_of(logits):
    """Each row of (..., T, T) logits with the number of keys that it sees."""
    for index in np.ndindex(logits.shape[:-1]):
        yield index, index[-1] + 1, logits[index][: index[-1] + 1]


def slow(name, logits, *, bias="log_length", length=8, sinks=None):
    """Causal attention weights (N, H, T, T), a row at a time, from the definitions; ``sinks`` are learned logits by head."""
    weights = np.zeros_like(logits)
    for index, keys, row in rows_of(logits):
        for j, x in enumerate(row):
            if name == "sigmoid":
                value = 1 / (1 + math.exp(-(x - math.log(length if bias == "log_length" else keys))))
            elif name == "softmax_off_by_one":
                value = math.exp(x) / (1 + sum(math.exp(y) for y in row))
            elif name == "sink_logits":
                value = math.exp(x) / (math.exp(sinks[index[1]]) + sum(math.exp(y) for y in row))
            elif name == "softpick":
                value = max(math.exp(x) - 1, 0) / (sum(abs(math.exp(y) - 1) for y in row) + 1e-6)
            else:
                value = math.exp(x) / sum(math.exp(y) for y in row)
            weights[(*index, j)] = value
    return weights


FUNCTIONS = [
    (sigmoid, {"bias": "log_length"}),
    (sigmoid, {"bias": "log_visible"}),
    (softmax_off_by_one, {}),
    (softpick, {}),
]
each_function = pytest.mark.parametrize(
    ("function", "options"), FUNCTIONS, ids=lambda value: getattr(value, "__name__", str(value))
)


def causal(length=6, dtype=torch.float64):
    visible = torch.ones(1, 1, length, length, dtype=torch.bool).tril()
    logits = 3 * torch.randn(2, 3, length, length, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return logits.masked_fill(~visible, torch.finfo(dtype).min), visible


@each_function
def test_weights_equal_their_definition_row_by_row(function, options):
    logits, visible = causal()
    expected = slow(function.__name__, logits.numpy(), **options)
    np.testing.assert_allclose(function(logits, visible, 8, **options).numpy(), expected, rtol=1e-12, atol=1e-14)
    endless = logits.masked_fill(~visible, -torch.inf)  # an edit may write −inf where masks have the lowest number
    np.testing.assert_allclose(function(endless, visible, 8, **options).numpy(), expected, rtol=1e-12, atol=1e-14)


@each_function
def test_gradients_of_the_weights_equal_differences(function, options):
    logits, visible = causal(4)
    free = logits[:1, :2].masked_fill(~visible, 0).requires_grad_()
    lowest = torch.finfo(torch.float64).min
    assert torch.autograd.gradcheck(lambda x: function(x.masked_fill(~visible, lowest), visible, 8, **options), (free,))


@each_function
@pytest.mark.parametrize("size", [-200.0, 200.0])
def test_weights_and_gradients_of_huge_logits_are_finite(function, options, size):
    visible = torch.ones(1, 1, 3, 3, dtype=torch.bool).tril()
    x = torch.tensor([size, size + 1, -size]).expand(1, 1, 3, 3).clone().requires_grad_()
    weights = function(x.masked_fill(~visible, torch.finfo(x.dtype).min), visible, 8, **options)
    weights.sum().backward()
    assert torch.isfinite(weights).all() and torch.isfinite(x.grad).all()
    assert (weights >= 0).all() and (weights[~visible.expand_as(weights)] == 0).all()


def test_sigmoid_refuses_a_bias_that_it_does_not_know():
    with pytest.raises(ValueError, match="is log_length or log_visible, not zero"):
        sigmoid(*causal(), 8, bias="zero")


@pytest.mark.parametrize("options", HEADWISE_OPTIONS)
def test_headwise_norm_equals_its_formula_head_by_head(options):
    torch.manual_seed(0)
    heads, head_width, width = 3, 4, 5
    projection = HeadwiseNormProjection(
        heads, head_width, width, scale=options["scale"], scale_init=options["scale_init"], offset=options["bias"]
    ).double()
    for parameter in projection.parameters():
        torch.nn.init.normal_(parameter)
    o = torch.randn(2, 6, heads * head_width, dtype=torch.float64)

    expected = torch.zeros(2, 6, width, dtype=torch.float64)
    for head in range(heads):
        columns = slice(head * head_width, (head + 1) * head_width)
        one = o[..., columns]
        normed = one / torch.sqrt((one**2).sum(-1, keepdim=True) / head_width + 1e-6)
        scale, offset = projection.scale, projection.offset
        if scale is None:
            normed = normed * options["scale_init"]
        else:
            normed = normed * (scale[head] if scale.dim() == 2 else scale)
        if offset is not None:
            normed = normed + (offset[head] if offset.dim() == 2 else offset)
        expected += normed @ projection.weight[:, columns].T
    torch.testing.assert_close(projection(o), expected)

    names, values = zip(*projection.named_parameters(), strict=True)
    assert torch.autograd.gradcheck(
        lambda inputs, *weights: torch.func.functional_call(projection, dict(zip(names, weights, strict=True)), inputs),
        (o[:1, :2].clone().requires_grad_(), *[value.detach().requires_grad_() for value in values]),
    )


def test_a_larger_value_aggregation_changes_nothing_after_the_headwise_norm():
    torch.manual_seed(0)
    projection = HeadwiseNormProjection(2, 4, 6, eps=0.0)
    o = torch.randn(3, 8)
    torch.testing.assert_close(projection(100 * o), projection(o))


@pytest.mark.parametrize("options", HEADWISE_OPTIONS[:2])
def test_scale_and_offset_can_be_folded_into_the_output_projection(options):
    """They change how W_O is learned, not what can be expressed: a norm without them and another W_O gives the same."""
    torch.manual_seed(0)
    full = HeadwiseNormProjection(3, 4, 5, scale=options["scale"], offset=True).double()
    for parameter in full.parameters():
        torch.nn.init.normal_(parameter)
    folded = HeadwiseNormProjection(3, 4, 5, scale="none", offset=False, bias=True).double()
    scale, offset = (part.detach().expand(3, 4).reshape(12) for part in (full.scale, full.offset))
    with torch.no_grad():
        folded.weight.copy_(full.weight * scale)
        folded.bias.copy_(full.weight @ offset)
    o = torch.randn(2, 12, dtype=torch.float64)
    torch.testing.assert_close(folded(o), full(o))


def test_gated_projection_equals_its_formula():
    torch.manual_seed(0)
    projection = GatedProjection(6, 5).double()
    torch.nn.init.normal_(projection.gate_weight)
    o, x = torch.randn(2, 3, 6, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    weight, gate_weight = projection.weight.detach().numpy(), projection.gate_weight.detach().numpy()
    gate = 1 / (1 + np.exp(-x.numpy() @ gate_weight.T))
    np.testing.assert_allclose(projection(o, x).detach().numpy(), (o.numpy() * gate) @ weight.T)
    assert torch.autograd.gradcheck(projection, (o.requires_grad_(), x.requires_grad_()))


# ---- the models


@dataclass
class Seen(Tap):
    """What the attention of layer 0 computes."""

    weights: list = field(default_factory=list)
    aggregation: list = field(default_factory=list)
    logits: list = field(default_factory=list)

    def edit_logits(self, layer, logits, offset):
        if layer == 0:
            self.logits.append(logits)
        return logits

    def observe(self, layer, query, key, weights, aggregation):
        if layer == 0:
            self.weights.append(weights)
            self.aggregation.append(aggregation)


@each_variant
def test_a_model_computes_the_weights_of_its_variant_and_their_sum_over_values(variant, options):
    model = build(variant, options)
    seen = Seen()
    architecture = read_architecture(model)
    with architecture.tapped(seen):
        architecture.forward(IDS)
    options = {} if VARIANTS[variant].load_class else options  # those of functions of the logits
    if variant == "sink_logits":
        options = {"sinks": model.model.layers[0].self_attn.attention_weights.sinks.tolist()}
    expected = slow(variant, seen.logits[0].double().numpy(), **options)
    np.testing.assert_allclose(seen.weights[0].numpy(), expected, rtol=1e-4, atol=1e-6)
    layer = model.model.layers[0]
    values = layer.self_attn.v_proj(layer.input_layernorm(model.model.embed_tokens(IDS)))
    values = values.view(2, 8, 2, 4).transpose(1, 2).repeat_interleave(2, dim=1).detach()  # (N, H, T, d_k)
    np.testing.assert_allclose(seen.aggregation[0].numpy(), expected @ values.numpy(), rtol=1e-4, atol=1e-5)


@each_variant
def test_value_aggregation_through_the_output_projection_is_the_attention_output(variant, options):
    model = build(variant, options)
    sites: dict = {}
    wanted = ["value_aggregation", "attention_input", "attention_output"]
    architecture = read_architecture(model)
    with watch_sites(architecture, wanted, lambda layer, site, value: sites.__setitem__((site, layer), value.clone())):
        architecture.forward(IDS)
    for layer in range(2):
        attention = model.model.layers[layer].self_attn
        o, x = sites["value_aggregation", layer], sites["attention_input", layer]
        weight = attention.o_proj.weight
        if variant == "headwise_rmsnorm":
            heads = o.unflatten(-1, (4, 4))
            heads = heads / (heads.square().mean(-1, keepdim=True) + 1e-6).sqrt() * attention.o_proj.scale
            o = (heads + attention.o_proj.offset).flatten(-2)
        elif variant == "gated":
            o = o * torch.sigmoid(x @ attention.o_proj.gate_weight.T)
        attended = o @ weight.T
        if variant == "sandwich_norm":
            attended = model.model.layers[layer].attention_output_norm(attended)
        torch.testing.assert_close(attended, sites["attention_output", layer], rtol=1e-5, atol=1e-5)
    # behind a norm the FFN's neurons do not write their down weights to the residual stream as they are
    assert [set(missing) for missing in architecture.missing] == [
        {"contribution"} if variant == "sandwich_norm" else set()
    ] * 2


def of_heads(x, gain=None):
    """Vectors (..., d) divided by the root of their mean square, times a gain; the formula of RMSNorm in NumPy."""
    normed = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)
    return normed if gain is None else normed * gain


def rotated(x):
    """Vectors (N, H, T, d_k) after the rotary embedding: dims c and c + d_k / 2 turn by t · 10000^(−2c / d_k)."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[-2])[:, None] * 10000.0 ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def by_hand(variant, model, ids):
    """Logits, and by layer what attention and FFN add, of softmax Llama with sandwich norm, QK-norm or sink logits, in NumPy."""
    weights = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    x = weights["model.embed_tokens.weight"][ids.numpy()]  # (N, T, d)
    added = {}
    for layer in range(SIZE["layers"]):
        own = {
            name.removeprefix(f"model.layers.{layer}.").removesuffix(".weight"): value
            for name, value in weights.items()
        }
        normed = of_heads(x, own["input_layernorm"])
        query, key, value = (
            (normed @ own[f"self_attn.{name}_proj"].T).reshape(*ids.shape, -1, 4).swapaxes(1, 2) for name in "qkv"
        )  # (N, H or H_kv, T, d_k)
        if variant == "qk_norm":
            query = of_heads(query, own["self_attn.q_proj.scale"])
            key = of_heads(key, own["self_attn.k_proj.scale"])
        key, value = (part.repeat(2, axis=1) for part in (rotated(key), value))
        logits = rotated(query) @ key.swapaxes(2, 3) / 2  # √d_k
        attention = slow(variant, logits, sinks=own.get("self_attn.attention_weights.sinks"))
        attended = (attention @ value).swapaxes(1, 2).reshape(*ids.shape, -1) @ own["self_attn.o_proj"].T
        if variant == "sandwich_norm":
            attended = of_heads(attended, own["attention_output_norm"])
        x = x + attended
        normed = of_heads(x, own["post_attention_layernorm"])
        gate, up = (normed @ own[f"mlp.{name}_proj"].T for name in ("gate", "up"))
        fed = (gate / (1 + np.exp(-gate)) * up) @ own["mlp.down_proj"].T
        if variant == "sandwich_norm":
            fed = of_heads(fed, own["ffn_output_norm"])
        x = x + fed
        added |= {("attention_output", layer): attended, ("ffn_output", layer): fed}
    return of_heads(x, weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T, added


@pytest.mark.parametrize("variant", ["softmax", "sink_logits", "qk_norm", "sandwich_norm"])
def test_a_model_and_what_it_adds_to_the_residual_stream_equal_the_formula_in_numpy(variant):
    model = build(variant)
    logits, added = by_hand(variant, model, IDS)
    sites: dict = {}
    architecture = read_architecture(model)
    with watch_sites(
        architecture,
        ["attention_output", "ffn_output"],
        lambda layer, site, value: sites.__setitem__((site, layer), value.clone()),
    ):
        architecture.forward(IDS)
    for found, expected in [(model(IDS).logits.detach(), logits), *((sites[place], added[place]) for place in added)]:
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_fused_kernel_of_sink_logits_is_pytorchs_and_learns_the_sinks():
    model = build("sink_logits").train()
    with torch.profiler.profile() as profile:
        model(IDS, labels=IDS, use_cache=False).loss.backward()
    called = {event.key for event in profile.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in called
    assert all(layer.self_attn.attention_weights.sinks.grad.abs().max() > 0 for layer in model.model.layers)


def test_a_sink_logit_takes_attention_and_gives_nothing():
    """Of rows that do not sum to one the taps see the scores as they are; divided by their sum they are the softmax's."""
    model = build("sink_logits")
    sinks = torch.tensor([-30.0, 0.0, 2.0, 30.0])  # none, as much as one key of logit 0, more, nearly all
    with torch.no_grad():
        model.model.layers[0].self_attn.attention_weights.sinks.copy_(sinks)
    seen = Seen()
    architecture = read_architecture(model)
    with architecture.tapped(seen):
        architecture.forward(IDS)
    [weights], logits = seen.weights, seen.logits[0].double()  # (N, H, T, T)
    rows = weights.double().sum(-1)
    softmax = logits.softmax(-1)
    denominator = logits.exp().sum(-1)
    torch.testing.assert_close(rows, denominator / (denominator + sinks.double().exp()[:, None]), rtol=1e-5, atol=0)
    torch.testing.assert_close(weights / rows[..., None], softmax, rtol=1e-5, atol=1e-8)
    assert (rows[:, 0] - 1).abs().max() < 1e-6 and rows[:, 3].max() < 0.01
    assert not any(architecture.rows_sum_to_one)


@each_variant
def test_taps_and_every_kernel_give_the_logits_that_training_sees(variant, options):
    model = build(variant, options)
    trained = model(IDS, use_cache=False).logits
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model(IDS, use_cache=False).logits, trained, rtol=1e-4, atol=1e-5)
    architecture = read_architecture(model)
    with architecture.tapped(Tap()):
        torch.testing.assert_close(model(IDS, use_cache=False).logits, trained, rtol=1e-4, atol=1e-5)


@each_variant
def test_gradients_reach_every_parameter_and_agree_between_kernels(variant, options):
    gradients = []
    for implementation in ("sdpa", "eager"):
        model = build(variant, options).train()
        model.set_attn_implementation(implementation)
        model(IDS, labels=IDS, use_cache=False).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)


@each_variant
def test_a_saved_model_loads_through_the_auto_classes_as_what_it_is(variant, options, tmp_path):
    model = build(variant, options)
    model.save_pretrained(tmp_path)
    VARIANTS[variant].register()
    model_class = VARIANTS[variant].model_class
    model_type = json.loads((tmp_path / "config.json").read_text())["model_type"]
    assert model_type == ("llama" if variant == "softmax" else f"{variant}_llama")
    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model) is model_class
    assert not report["missing_keys"] and not report["unexpected_keys"]
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, loaded.get_parameter(name))
    # not to the bit: a mapped file's tensors lie at other offsets in memory, where CPU kernels may add in another order
    torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits, rtol=1e-5, atol=1e-5)
    assert type(AutoConfig.from_pretrained(tmp_path)) is model_class.config_class
    assert type(AutoModel.from_pretrained(tmp_path)) is type(model.model)


@each_variant
def test_generation_with_a_cache_equals_the_full_forward(variant, options):
    model = build(variant, options)
    generated = model.generate(
        IDS[:, :3], max_new_tokens=5, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=0
    )
    full = model(generated.sequences, use_cache=False).logits
    torch.testing.assert_close(torch.stack(generated.logits, 1), full[:, 2:-1], rtol=1e-4, atol=1e-4)


@each_variant
def test_tokens_one_by_one_and_in_chunks_equal_the_full_forward(variant, options):
    model = build(variant, options)
    full = model(IDS, use_cache=False).logits
    for steps in ([1] * 8, [3, 4, 1]):
        cache, parts, start = None, [], 0
        for step in steps:
            out = model(IDS[:, start : start + step], past_key_values=cache, use_cache=True)
            cache, start = out.past_key_values, start + step
            parts.append(out.logits)
        torch.testing.assert_close(torch.cat(parts, 1), full, rtol=1e-4, atol=1e-4)


@each_variant
def test_a_later_token_or_another_sequence_changes_nothing(variant, options):
    model = build(variant, options)
    alone = model(IDS[:1], use_cache=False).logits
    torch.testing.assert_close(model(IDS, use_cache=False).logits[:1], alone, rtol=1e-5, atol=1e-5)
    changed = IDS[:1].clone()
    changed[0, -1] = (changed[0, -1] + 1) % 40
    torch.testing.assert_close(model(changed, use_cache=False).logits[:, :-1], alone[:, :-1], rtol=1e-5, atol=1e-5)


def test_no_softmax_kernel_can_be_set_on_a_variant_with_other_weights():
    with_weights = [name for name, variant in VARIANTS.items() if variant.weights is not None]
    assert with_weights == ["sigmoid", "softmax_off_by_one", "softpick"]
    for variant in [*with_weights, "sink_logits"]:
        model = build(variant)
        with pytest.raises(ValueError, match="another function than softmax, so attn_implementation flex_attention"):
            model.set_attn_implementation("flex_attention")
        expected = model(IDS, use_cache=False).logits
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(model(IDS, use_cache=False).logits, expected)


def test_off_by_one_uses_the_fused_softmax():
    model = build("softmax_off_by_one")
    with torch.profiler.profile() as profile:
        model(IDS, use_cache=False)
    called = {event.key for event in profile.key_averages()}
    assert "aten::scaled_dot_product_attention" in called and "aten::exp" not in called


# ---- how models start


@pytest.mark.parametrize("options", HEADWISE_OPTIONS)
def test_scale_and_offset_start_as_stated_also_on_top_of_a_softmax_checkpoint(options, tmp_path):
    softmax = build_model(SIZE, vocabulary=40, variant="softmax", seed=0)
    fresh = build_model(SIZE, vocabulary=40, variant="headwise_rmsnorm", seed=0, options=options)
    softmax.save_pretrained(tmp_path)
    on_top, report = HeadwiseRMSNormLlamaForCausalLM.from_pretrained(
        tmp_path, config=fresh.config, output_loading_info=True
    )
    assert not report["unexpected_keys"]
    for model in (fresh, on_top):
        for layer in model.model.layers:
            projection = layer.self_attn.o_proj
            assert (projection.scale is None) == (options["scale"] == "none")
            assert (projection.offset is None) == (not options["bias"])
            if projection.scale is not None:
                assert torch.all(projection.scale == options["scale_init"])
            if projection.offset is not None:
                assert torch.all(projection.offset == 0)
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_all_variants_of_a_seed_start_from_the_same_weights():
    start = {"std": 0.03, "embedding_std": 0.3, "scale_residual": True}
    softmax = dict(build_model(SIZE, vocabulary=40, variant="softmax", seed=5, initialisation=start).named_parameters())
    added = {
        "headwise_rmsnorm": ("o_proj.scale", "o_proj.offset"),
        "gated": ("o_proj.gate_weight",),
        "sink_logits": ("attention_weights.sinks",),
        "qk_norm": ("q_proj.scale", "k_proj.scale"),
        "sandwich_norm": ("attention_output_norm.weight", "ffn_output_norm.weight"),
    }
    for variant in VARIANTS:
        varied = dict(
            build_model(SIZE, vocabulary=40, variant=variant, seed=5, initialisation=start).named_parameters()
        )
        for name, weight in softmax.items():
            assert torch.equal(weight, varied[name])
        extra = set(varied) - set(softmax)
        assert len(extra) == SIZE["layers"] * len(added.get(variant, ()))
        assert all(name.endswith(added[variant]) for name in extra)
    other = dict(build_model(SIZE, vocabulary=40, variant="softmax", seed=6).named_parameters())
    assert not torch.equal(softmax["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_what_these_variants_add_starts_as_stated():
    ids = IDS
    plain = build_model(SIZE, vocabulary=40, variant="softmax", seed=0).eval()
    sinks = build_model(SIZE, vocabulary=40, variant="sink_logits", seed=0).eval()
    off_by_one = build_model(SIZE, vocabulary=40, variant="softmax_off_by_one", seed=0).eval()
    torch.testing.assert_close(sinks(ids).logits, off_by_one(ids).logits, rtol=1e-5, atol=1e-6)
    normed = build_model(SIZE, vocabulary=40, variant="qk_norm", seed=0)
    for projection in (normed.model.layers[1].self_attn.q_proj, normed.model.layers[1].self_attn.k_proj):
        heads = projection(torch.randn(3, 16)).unflatten(-1, (-1, 4))
        torch.testing.assert_close(heads.square().mean(-1), torch.ones(heads.shape[:-1]), rtol=0.05, atol=0)
    for start in (1.0, 0.1):
        sandwich = build_model(SIZE, vocabulary=40, variant="sandwich_norm", seed=0, options={"scale_init": start})
        layer = sandwich.model.layers[0]
        assert (layer.attention_output_norm.weight == start).all() and (layer.ffn_output_norm.weight == start).all()
    # a sandwich without what its outer norms divide by is the plain block
    layer.attention_output_norm = layer.ffn_output_norm = torch.nn.Identity()
    x, angles = torch.randn(1, 8, 16), plain.model.rotary_emb(torch.zeros(1), torch.arange(8)[None])
    torch.testing.assert_close(
        layer.eval()(x, position_embeddings=angles), plain.model.layers[0](x, position_embeddings=angles)
    )


@pytest.mark.parametrize("tied", [True, False])
def test_initialisation_scales_the_same_draws(tied):
    size = {**SIZE, "width": 64, "layers": 3, "tied_embeddings": tied}
    plain = build_model(size, vocabulary=200, variant="gated", seed=0)
    start = {"std": 0.04, "embedding_std": 0.5, "scale_residual": True}
    scaled = build_model(size, vocabulary=200, variant="gated", seed=0, initialisation=start)
    for name, weight in plain.named_parameters():
        factor = 2.0
        if "norm" in name:
            factor = 1.0
        elif "embed_tokens" in name:
            factor = 25.0
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            factor = 2 / math.sqrt(6)
        torch.testing.assert_close(scaled.get_parameter(name), factor * weight)
        if "norm" not in name:
            assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (scaled.lm_head.weight is scaled.model.embed_tokens.weight) == tied


def test_unknown_variants_options_and_indivisible_heads_are_refused():
    with pytest.raises(
        SinkoriginError, match="variant 'linear' is unknown: no module sinkorigin.variants.linear declares it"
    ):
        build_model(SIZE, vocabulary=40, variant="linear", seed=0)
    with pytest.raises(SinkoriginError, match="variant sigmoid has no option scale, its options are: bias; correct"):
        build_model(SIZE, vocabulary=40, variant="sigmoid", seed=0, options={"scale": "none"})
    with pytest.raises(SinkoriginError, match="variant softmax has no option eps, its options are: none"):
        build_model(SIZE, vocabulary=40, variant="softmax", seed=0, options={"eps": 1.0})
    with pytest.raises(SinkoriginError, match="width 18, heads 4, kv_heads 2"):
        build_model({**SIZE, "width": 18}, vocabulary=40, variant="softmax", seed=0)


@pytest.mark.parametrize("name", ["declaration", "registry", "../sigmoid", "os.path", ""])
def test_what_declares_no_variant_is_refused(name):
    with pytest.raises(SinkoriginError, match="is unknown"):
        declared(name)


# ---- what a stranger does


def python(code, *arguments, library=ROOT / "src"):
    """Run code in a new process, in which ``sinkorigin`` can be imported and nothing is yet."""
    code = f"import sys; sys.path.insert(0, {str(library)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_loading_a_model_imports_its_variant_only(tmp_path):
    build("softpick").save_pretrained(tmp_path)
    write_manifest(tmp_path)
    code = """
import sinkorigin
assert not {"torch", "transformers"} & set(sys.modules)
print(type(sinkorigin.load_model(sys.argv[1])).__name__)
print(*sorted(name for name in sys.modules if name.startswith("sinkorigin.variants.")))
"""
    modules = [f"sinkorigin.variants.{name}" for name in ("declaration", "llama", "softpick")]
    assert python(code, tmp_path).split() == ["SoftpickLlamaForCausalLM", *modules]


def test_a_plain_llama_is_loaded_without_any_variant(tmp_path):
    build("softmax").save_pretrained(tmp_path)
    write_manifest(tmp_path)
    code = """
import sinkorigin
sinkorigin.load_model(sys.argv[1])
print(*(name for name in sys.modules if name.startswith("sinkorigin.variants")))
"""
    assert python(code, tmp_path).split() == []


def test_a_variant_is_registered_for_the_auto_classes_as_the_docs_say(tmp_path):
    build("sigmoid").save_pretrained(tmp_path)
    page = (ROOT / "docs" / "variants.md").read_text()
    ours, auto = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "register()" in auto  # which is tried before the library has registered it
    code = "".join(f"{block}\nprint(type(model).__name__)\n" for block in (auto, ours))
    write_manifest(tmp_path)
    code, places = re.subn(r'"results/.*/model"', "sys.argv[1]", code)
    assert places == 2 and python(code, tmp_path).split() == ["SigmoidLlamaForCausalLM"] * 2


def test_the_config_knows_every_variant_without_pytorch():
    code = f"""
sys.path.insert(0, {str(ROOT / "workflow_scripts")!r})
from harness.config.variants import VARIANTS
assert not {{"torch", "transformers"}} & set(sys.modules)
print(*VARIANTS)
"""
    assert python(code).split() == list(VARIANTS)


@pytest.mark.parametrize("name", ["_llama", "llama_llama", "../x_llama", "os.path_llama", "declaration_llama", None, 3])
def test_a_model_type_of_no_variant_registers_nothing(name):
    register_variant({"model_type": name})


def blocks(kind):
    """Code blocks of a kind in the section of docs/extending.md on variants."""
    section = (ROOT / "docs" / "extending.md").read_text().partition("## An attention variant")[2]
    return re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL)


_SEVENTH = """
import torch, yaml
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]) / "workflow_scripts"))
from harness.config.reading import read_config
from sinkorigin.models.loading import load_model
from sinkorigin.pretraining.model import build_model
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.tables import write_manifest

torch.set_num_threads(1)
folder = Path(sys.argv[1])
run = read_config(yaml.safe_load((folder / "config.yaml").read_text())).pretraining.runs[-1]
size = {**run.model_dump(), "tied_embeddings": True, "layers": 2}
model = build_model(size, vocabulary=60, variant=run.variant, seed=0, options=run.options)
ids = torch.randint(1, 60, (2, 8))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
losses = []
for _ in range(5):
    loss = model(ids, labels=ids, use_cache=False).loss
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0]
model.eval().save_pretrained(folder / "model")
write_manifest(folder / "model")
loaded = load_model(folder / "model")
torch.testing.assert_close(loaded(ids).logits, model(ids).logits)
out = loaded.generate(ids[:, :3], max_new_tokens=4, do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=0)
torch.testing.assert_close(torch.stack(out.logits, 1), model(out.sequences).logits[:, 2:-1])
architecture = read_architecture(loaded)
print(run.name, loaded.config.model_type, type(loaded).__name__, architecture.rows_sum_to_one)
"""


@pytest.fixture
def with_relu(tmp_path):
    """A checkout with the variant of docs/extending.md."""
    for folder in ("src", "workflow_scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    folder = tmp_path / "src" / "sinkorigin" / "variants"
    module, line = blocks("python")
    (folder / "relu.py").write_text(module)
    registry = (folder / "registry.py").read_text()
    (folder / "registry.py").write_text(registry.replace("\n)", f"\n{line.rstrip()}\n)"))
    config = (ROOT / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config.rstrip() + "\n" + blocks("yaml")[0])  # the runs end it
    return tmp_path


def test_another_variant_is_one_module_one_line_and_one_config_entry(with_relu):
    said = python(_SEVENTH, with_relu, library=with_relu / "src")
    assert said.strip() == "relu relu_llama ReluLlamaForCausalLM [False, False]"


def test_another_variant_changes_the_version_of_no_other_job(with_relu):
    before, after = (Code(root, ROOT / "requirements.lock") for root in (ROOT, with_relu))
    scripts = [path.name for path in (ROOT / "workflow_scripts").glob("*.py")]
    assert {"pretrain.py", "extract_activations.py", "fetch_model.py"} < set(scripts)
    for script in scripts:
        assert after.version(script) == before.version(script), script
        for variant in VARIANTS:
            module = f"sinkorigin.variants.{variant}"
            assert after.version(script, module) == before.version(script, module), (script, variant)


def test_the_code_of_a_variant_counts_for_its_jobs_and_no_others():
    code = Code(ROOT, ROOT / "requirements.lock")
    with_classes = {name: {f"{name}_llama"} for name, variant in VARIANTS.items() if variant.load_class}
    with_classes["softmax"] = set()  # transformers' own
    modules = {*VARIANTS, *set().union(*with_classes.values()), "registry"}
    for script in ("pretrain.py", "extract_activations.py"):
        assert not modules & {path.stem for path in code.closure(script)}
        for variant in VARIANTS:
            found = {path.stem for path in code.closure(script, f"sinkorigin.variants.{variant}")}
            assert modules & found == {variant} | with_classes.get(variant, set())
            assert {"declaration", "llama"} < found
