"""Layers with gradients in closed form are transformers' layers: the same losses and gradients, and the same saved model."""

import pytest
import torch

from sinkorigin.pretraining import loop
from sinkorigin.pretraining.fused_layers import fuse_layers
from sinkorigin.pretraining.model import build_model
from sinkorigin.variants.registry import VARIANTS

SIZE = {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "ffn_width": 24, "length": 12, "tied_embeddings": True}
FUSED = {"softmax", "headwise_rmsnorm", "sigmoid", "softmax_off_by_one", "softpick", "sink_logits"}


def made(variant, options=None):
    """A model whose every parameter is random, norms and offsets too."""
    model = build_model(SIZE, vocabulary=40, variant=variant, seed=0, options=options).train()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return model


def fused_layers(model):
    return [number for number, layer in enumerate(model.model.layers) if "forward" in vars(layer)]


@pytest.mark.parametrize(
    ("variant", "options"), [*((name, {}) for name in VARIANTS), ("sigmoid", {"bias": "log_visible"})], ids=str
)
def test_losses_and_gradients_are_those_of_the_plain_layers(variant, options):
    inputs, targets = torch.randint(40, (2, 3, 12), generator=torch.Generator().manual_seed(1))
    found = []
    for fused in (False, True):
        model = made(variant, options)
        if fused:
            fuse_layers(model)
            assert fused_layers(model) == ([0, 1] if variant in FUSED else [])
        loss = loop._Loss(model)(inputs, targets)
        loss.backward()
        found.append((loss.item(), {name: parameter.grad for name, parameter in model.named_parameters()}))
    (plain, expected), (loss, gradients) = found
    assert loss == pytest.approx(plain, rel=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        error = (gradient - expected[name]).abs().max() / expected[name].abs().max()
        assert error < 1e-4, f"{name}: {error:.1e}"


def test_a_fused_model_is_saved_as_the_plain_one(tmp_path):
    for name, fused in (("plain", False), ("fused", True)):
        model = made("softmax")
        if fused:
            fuse_layers(model)
        model.save_pretrained(tmp_path / name)
    for file in ("model.safetensors", "config.json"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "fused" / file).read_bytes()
