"""The cost of a training, from its configuration: parameters to the last one, memory and operations nearly."""

import json
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sinkorigin.pretraining.cost import cost, flops_per_token, parameters
from sinkorigin.pretraining.model import build_model
from tiny_study import ROOT

SIZE = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "ffn_width": 48, "length": 16, "tied_embeddings": True}
OPTIONS = [
    ("softmax", {}),
    ("sigmoid", {"bias": "log_length"}),
    *((variant, {}) for variant in ("gated", "sink_logits", "qk_norm", "sandwich_norm")),
    *(
        ("headwise_rmsnorm", {"scale": scale, "bias": bias, "scale_init": 1.0})
        for scale in ("per_head", "shared", "none")
        for bias in (True, False)
    ),
]
# large enough that its tensors, and not the allocator's caches, make the peak
RUN = {
    "layers": 4, "width": 256, "heads": 4, "kv_heads": 2, "ffn_width": 704, "length": 128, "batch": 16, "steps": 10,
    "variant": "softmax", "dtype": "float32",
}  # fmt: skip
VOCABULARY = 8192

MEASURE = """
import json, sys
from pathlib import Path
run, vocabulary = json.loads(sys.argv[1]), int(sys.argv[2])
import torch
from torch.nn import functional as F
from sinkorigin.pretraining.model import build_model
torch.set_num_threads(1)
def peak():  # of this process alone, in bytes: ru_maxrss would begin with that of the process that started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
def step(model, optimizer, batch, length, words):
    ids = torch.randint(0, words, (batch, length))
    loss = F.cross_entropy(model(input_ids=ids, use_cache=False).logits.float().flatten(0, 1), ids.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
small = {**run, "layers": 1, "width": 16, "heads": 2, "kv_heads": 2, "ffn_width": 16, "tied_embeddings": True}
model = build_model(small, vocabulary=32, variant=run["variant"], seed=0)
step(model, torch.optim.AdamW(model.parameters(), fused=True), 2, 8, 32)  # what the libraries load on first use
before = peak()
model = build_model({**run, "tied_embeddings": True}, vocabulary=vocabulary, variant=run["variant"], seed=0)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
for _ in range(2):
    step(model, optimizer, run["batch"], run["length"], vocabulary)
print(peak() - before)
"""


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("variant", "options"), OPTIONS)
def test_predicted_number_of_parameters_is_exact(variant, options, tied):
    size = {**SIZE, "tied_embeddings": tied}
    model = build_model(size, vocabulary=96, variant=variant, seed=0, options=options)
    assert parameters(size, vocabulary=96, variant=variant, options=options) == sum(
        p.numel() for p in model.parameters()
    )


@pytest.mark.parametrize("variant", ["softmax", "gated"])
def test_predicted_operations_are_those_that_are_counted(variant):
    model = build_model(SIZE, vocabulary=96, variant=variant, seed=0)
    model.set_attn_implementation("eager")  # a fused kernel's products are not counted everywhere
    ids = torch.randint(0, 96, (3, SIZE["length"]))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, use_cache=False).logits.sum().backward()
    predicted = flops_per_token(SIZE, vocabulary=96, variant=variant) * ids.numel()
    assert counter.get_total_flops() == pytest.approx(predicted, rel=0.05)


@pytest.mark.parametrize("variant", ["softmax", "sigmoid"])
def test_predicted_memory_is_within_half_of_the_measured_peak(variant):
    run = RUN | {"variant": variant}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(run), str(VOCABULARY)],
        cwd=ROOT / "src", capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured, predicted = float(done.stdout.split()[-1]), cost(run, vocabulary=VOCABULARY, options={}).memory
    assert 1 / 1.5 < predicted / measured < 1.5, (predicted, measured)


def test_accumulation_and_more_devices_save_memory_and_cost_no_operations():
    one = cost(RUN, vocabulary=VOCABULARY, options={})
    split = cost(RUN | {"accumulate": 4}, vocabulary=VOCABULARY, options={}, devices=2)
    assert split.flops == one.flops and split.tokens == one.tokens == 10 * 16 * 128
    assert split.memory - 16 * one.parameters == pytest.approx((one.memory - 16 * one.parameters) / 8)
    assert split.hours(1e12, 0.5, 2) == pytest.approx(one.hours(1e12, 0.5) / 2)
    assert one.hours(1e12, 0.5) == pytest.approx(one.flops / 0.5e12 / 3600)
