"""Every captured site recombines to what the model itself computes, in many architectures."""

import copy

import pytest
import torch
import transformers

from architectures import ARCHITECTURES, OTHERS, build
from sinkorigin.activations.capture import watch_sites
from sinkorigin.errors import SinkoriginError
from sinkorigin.interventions.context import applied
from sinkorigin.interventions.kinds.mask import Mask
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.attention import HARMLESS_ARGUMENTS, tapped_attention
from sinkorigin.sites.registry import SITES
from sinkorigin.variants.declaration import declared
from sinkorigin.variants.registry import VARIANTS


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
    _, logits = capture(read_architecture(any_model, sites=SITES), ids)
    assert torch.equal(logits, plain)


def test_sites_recombine_to_the_residual_stream(any_model, token_ids):
    architecture = read_architecture(any_model, sites=SITES)
    seen, _ = capture(architecture, torch.from_numpy(token_ids))
    for layer in range(architecture.layers):
        before = seen[layer - 1, "residual"]
        added = sum(seen[layer, site].reshape(before.shape) for site in ("attention_output", "ffn_output"))
        assert relative(before + added, seen[layer, "residual"]) < 1e-5


def test_aggregation_through_output_projection_is_what_attention_returns(any_model, token_ids):
    architecture = read_architecture(any_model, sites=SITES)
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
    architecture = read_architecture(any_model, sites=SITES)
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
    architecture = read_architecture(any_model, sites=SITES)
    rows = []
    with watch_sites(architecture, [], None, lambda layer, query, key, weights: rows.append(weights.sum(-1))):
        architecture.forward(torch.from_numpy(token_ids))
    assert len(rows) == architecture.layers
    for total in rows:
        if any_model.config.model_type == "gpt_oss":
            assert (total < 1).all()
        else:
            torch.testing.assert_close(total, torch.ones_like(total))


def test_a_model_without_attention_is_refused_in_one_sentence():
    config = transformers.MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(
        SinkoriginError, match="model m: MambaForCausalLM takes its attention neither .* choose a model class"
    ):
        read_architecture(model, "m")


def test_a_site_that_a_model_lacks_is_said_with_the_reason():
    architecture = read_architecture(build("mixtral"), sites=SITES)
    for missing in architecture.missing:
        assert "mixture of experts" in missing["ffn_activation"]
        assert "mixture of experts" in missing["down"]


def test_the_neuron_matrices_make_the_activation(any_model, token_ids):
    """act(gate) ⊙ up of the matrices found is what enters the down-projection, act(up) where there is no gate."""
    architecture = read_architecture(any_model, sites=SITES)
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
    assert set(read_architecture(any_model, sites=SITES).norms) == {expected}


def test_sites_are_found_where_the_residual_stream_is_massive(token_ids):
    """A dim of a million rounds away what a layer adds to it, which must not hide the layer's other dims."""
    model = copy.deepcopy(build("llama"))
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 3] = 1e6
    architecture = read_architecture(model, sites=SITES)
    assert architecture.missing == [{}, {}, {}]
    seen, _ = capture(architecture, torch.from_numpy(token_ids))
    assert {layer for layer, site in seen if site == "ffn_output"} == {0, 1, 2}


def test_an_argument_that_the_attention_function_does_not_know_is_refused_by_name():
    query = torch.ones(1, 1, 3, 4)
    plain, _ = tapped_attention(torch.nn.Identity(), query, query, query, None)
    harmless = dict.fromkeys(HARMLESS_ARGUMENTS, 1)
    for given in ({"indices": None}, harmless):
        assert torch.equal(tapped_attention(torch.nn.Identity(), query, query, query, None, **given)[0], plain)
    with pytest.raises(
        SinkoriginError, match="Identity passes indices to its attention function, .* choose another model"
    ):
        tapped_attention(torch.nn.Identity(), query, query, query, None, indices=torch.zeros(1))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gemma3n", r"model m: block 0 of Gemma3nForCausalLM has .* its blocks carry several residual streams; choose"),
        (
            "bert",
            "model m: BertLMHeadModel lets a token attend to later ones, .* choose a causal model, or set is_decoder",
        ),
    ],
)
def test_a_model_whose_attention_or_stream_is_of_another_kind_is_refused_with_the_reason(name, sentence):
    with pytest.raises(SinkoriginError, match=sentence):
        read_architecture(build(name), "m")


def test_a_causal_model_of_a_class_that_need_not_be_is_read():
    cls, arguments = OTHERS["bert"]
    config = getattr(transformers, cls)(**arguments, is_decoder=True)
    assert read_architecture(transformers.AutoModelForCausalLM.from_config(config).eval(), "m").layers == 3


def test_layers_that_share_one_attention_module_are_refused():
    model = copy.deepcopy(build("llama"))
    model.model.layers[2] = model.model.layers[1]
    with pytest.raises(
        SinkoriginError, match="LlamaForCausalLM attends 3 times in a pass, by 2 modules in all; choose a model"
    ):
        read_architecture(model, "m")


def test_an_attention_module_that_is_not_called_as_one_is_refused():
    class Block(type(build("llama").model.layers[1])):
        def forward(self, hidden_states, **kwargs):  # no hook of the attention module runs
            attended = self.self_attn.forward(hidden_states=self.input_layernorm(hidden_states), **kwargs)[0]
            return hidden_states + attended + self.mlp(hidden_states)

    model = copy.deepcopy(build("llama"))
    model.model.layers[1].__class__ = Block
    with pytest.raises(
        SinkoriginError, match="model m: block 1 of LlamaForCausalLM has no attention module that takes"
    ):
        read_architecture(model, "m")


def test_an_attention_module_that_is_called_past_its_hooks_is_seen_in_the_module_around_it(token_ids):
    model = copy.deepcopy(build("llama"))
    model.model.layers[1].self_attn = Unhooked(model.model.layers[1].self_attn)
    around, plain = (read_architecture(one, "m", SITES) for one in (model, build("llama")))
    assert around.eager and not plain.eager
    seen = [capture(architecture, torch.from_numpy(token_ids))[0] for architecture in (around, plain)]
    for layer in range(3):
        for site in ("attention", "query", "key", "value_aggregation", "attention_output"):
            torch.testing.assert_close(seen[0][layer, site], seen[1][layer, site])


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "gpt_neox", "phi3", "mixtral", "gpt_oss"])
def test_eager_attention_shows_what_the_attention_function_shows(name, token_ids, monkeypatch):
    """Grouped queries, soft-capped logits, fused projections, learned sink logits, sliding windows."""
    through = read_architecture(build(name), "m", SITES)
    model = copy.deepcopy(build(name))
    monkeypatch.setattr(type(model), "_supports_attention_backend", False)
    eager = read_architecture(model, "m", SITES)
    assert eager.eager and not through.eager
    assert eager.rows_sum_to_one == through.rows_sum_to_one and eager.missing == through.missing
    edit = Mask(layers=[1, 2], positions=[5])
    for edits in ((), (edit,)):
        with applied(eager, *edits):
            seen, logits = capture(eager, torch.from_numpy(token_ids))
        with applied(through, *edits):
            expected, expected_logits = capture(through, torch.from_numpy(token_ids))
        assert seen.keys() == expected.keys()
        for key, values in seen.items():
            torch.testing.assert_close(values, expected[key], msg=str(key))
        torch.testing.assert_close(logits, expected_logits)


class Unhooked(torch.nn.Module):
    """Calls a module's forward method itself, so that no hook of the module runs."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module.forward(*args, **kwargs)


def test_a_model_that_needs_more_than_tokens_is_refused_with_what_it_raised(monkeypatch):
    def forward(self, input_ids, images, **kwargs):
        return images

    monkeypatch.setattr(transformers.LlamaModel, "forward", forward)
    with pytest.raises(
        SinkoriginError, match="model m: .* on token ids alone .* argument: 'images'.* choose another model"
    ):
        read_architecture(build("llama"), "m")


def test_a_norm_that_reads_more_than_the_residual_stream_is_said_to():
    class Conditioned(torch.nn.Module):
        def forward(self, hidden, scale):
            return hidden * scale

    class Block(type(build("llama").model.layers[0])):
        def forward(self, hidden_states, **kwargs):
            normed = self.condition(hidden_states, torch.tensor(2.0))
            hidden_states = hidden_states + self.self_attn(hidden_states=normed, **kwargs)[0]
            return hidden_states + self.mlp(hidden_states)

    model = copy.deepcopy(build("llama"))
    model.model.layers[0].__class__, model.model.layers[0].condition = Block, Conditioned()
    architecture = read_architecture(model, "m", SITES)
    assert architecture.missing[0]["norm"] == (
        "what normalises the residual stream before the attention reads more than that stream"
    )
    assert architecture.norms == [None, "RMSNorm", "RMSNorm"]


def test_probe_tokens_are_those_with_a_finite_embedding(token_ids):
    model = copy.deepcopy(build("llama"))
    embedding = torch.nn.Embedding(200, 32)  # rows behind the vocabulary, as a checkpoint is padded for speed
    with torch.no_grad():
        embedding.weight.fill_(torch.nan)
        embedding.weight[3:96] = model.model.embed_tokens.weight[3:96]
        embedding.weight[96:] = 1  # finite, but no tokens
    model.model.embed_tokens = embedding
    seen = []
    model.model.register_forward_pre_hook(lambda _m, _a, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True)
    architecture = read_architecture(model, "m", SITES)
    assert all(ids.min() >= 3 and ids.max() < 96 for ids in seen)
    assert architecture.missing == [{}, {}, {}]
    with torch.no_grad():
        embedding.weight[4:96] = torch.inf
    with pytest.raises(SinkoriginError, match="model m: 1 of its 96 tokens have a finite embedding, .* check"):
        read_architecture(model, "m")


@pytest.mark.parametrize("name", [*ARCHITECTURES, "gemma4"])
def test_hidden_states_through_the_taps_are_those_of_eager_attention(name, token_ids):
    model = build(name)
    read_architecture(model).check_against_eager(torch.from_numpy(token_ids), "m")
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_states_of_a_variant_through_the_taps_are_those_without(variant, token_ids):
    torch.manual_seed(0)
    model_class = declared(variant).model_class
    model = model_class(model_class.config_class(**ARCHITECTURES["llama"][1])).eval()
    before = model.config._attn_implementation
    read_architecture(model).check_against_eager(torch.from_numpy(token_ids), "m")
    assert model.config._attn_implementation == before
