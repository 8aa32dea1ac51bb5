"""Training steps of the paper's 152 M model on a GPU: tokens per second and peak memory by variant, beside the estimates.

    python benchmarks/paper_scale.py [--variants softmax sigmoid] [--sequences 16]

bfloat16 autocast on random tokens, compiled and not. The estimates are those of ``sinkorigin.pretraining.cost``.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]

import torch
import yaml
from measured import Measured, add_json_option, write_json
from torch.nn import functional as F

from sinkorigin.pretraining.cost import cost
from sinkorigin.pretraining.model import build_model
from sinkorigin.variants.registry import VARIANTS

VOCABULARY = 32_000
RUN = yaml.safe_load((Path(__file__).parents[1] / "config.paper.yaml").read_text())["pretraining"]["runs"][0]
SIZE = {name: RUN[name] for name in ("layers", "width", "heads", "kv_heads", "ffn_width", "length", "tied_embeddings")}


def measure(variant: str, sequences: int, compiled: bool, steps: int) -> list[Measured]:
    """Speed, and peak memory beside its estimate, of one kind of step; they are printed."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch._dynamo.reset()
    model = build_model(SIZE, vocabulary=VOCABULARY, variant=variant, seed=0).to("cuda").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(VOCABULARY, (sequences, SIZE["length"]), device="cuda")

    def loss_of(ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), ids.flatten())

    trained = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        trained(ids).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    speed = steps * ids.numel() / (time.perf_counter() - began)
    run = {**SIZE, "variant": variant, "batch": sequences, "steps": 1, "dtype": "bfloat16", "compile": compiled}
    estimate = cost(run, vocabulary=VOCABULARY, options={})
    peak = torch.cuda.max_memory_allocated()
    name = f"{variant}, {'compiled' if compiled else 'not compiled'}, {sequences} sequences"
    print(
        f"{name}: {speed:,.0f} tokens/s, "
        f"{estimate.flops_per_token * speed / 1e12:.0f} TFLOP/s, peak {peak / 1e9:.2f} GB, estimated "
        f"{estimate.memory / 1e9:.2f} GB ({estimate.memory / peak:.2f})",
        flush=True,
    )
    return [
        Measured(name=f"training step of 152 M parameters: {name}", numerator=speed, unit="tokens/s"),
        Measured(
            name=f"peak memory of that step, beside the estimate: {name}", numerator=peak / 1e9, denominator=estimate.memory / 1e9,
            ratio=peak / estimate.memory, unit="GB",
        ),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--sequences", nargs="+", type=int, default=[16], help="of a micro-batch")
    parser.add_argument("--steps", type=int, default=8)
    add_json_option(parser)
    arguments = parser.parse_args()
    found = []
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    for variant in arguments.variants:
        for compiled in (False, True):
            for sequences in arguments.sequences:
                found += measure(variant, sequences, compiled, arguments.steps)
    write_json(arguments.json, found)


if __name__ == "__main__":
    main()
