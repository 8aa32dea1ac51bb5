"""What the extraction of long prompts costs beside plain forward passes with PyTorch's fused attention, in time and in memory.

    python benchmarks/long_prompts.py results/models/smollm2-135m --length 32768

Each side runs in a process of its own, so that its peak memory is its own; the two take turns, round by round, on as many threads. The
forward pass has one sequence, on all threads, and the extraction as many sequences as threads, each on one, as it has in a study; compared
are seconds a sequence. The extraction makes all tables, among them the exact sink score of every head from attention in blocks of queries, and
compares some queries of every layer with the model's own eager attention.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]

import numpy as np
import torch
from measured import Measured, add_json_option, compared, peak_gibibytes, write_json

from sinkorigin.activations.pipeline import extract
from sinkorigin.models.loading import load_model
from sinkorigin.sites.architecture import read_architecture

SLOWER = 1.5  # of a forward pass, at most
GIBIBYTES = 4.0  # of the extraction, at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory of the workflow")
    parser.add_argument("--length", type=int, default=32768, help="tokens of each sequence, drawn at random")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", choices=("forward", "extraction"), help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.side:
        measure(arguments)
        return
    seconds: dict[str, list[float]] = {"forward": [], "extraction": []}
    gibibytes: dict[str, list[float]] = {"forward": [], "extraction": []}
    for _ in range(arguments.rounds):
        for side in seconds:
            command = [sys.executable, __file__, arguments.model, "--side", side]
            command += ["--length", str(arguments.length), "--threads", str(arguments.threads)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            seconds[side].append(found["seconds"])
            gibibytes[side].append(found["GiB"])
            print(f"{side}: {found['seconds']:.1f} s, {found['GiB']:.2f} GiB", flush=True)
    what = f"extraction of {arguments.length} tokens"
    measured = [
        compared(f"{what}, a sequence, beside a forward pass", seconds["extraction"], seconds["forward"], bar=SLOWER),
        Measured(
            name=f"{what}, {arguments.threads} sequences at once, peak memory, beside {GIBIBYTES:g} GiB", unit="GiB",
            numerator=max(gibibytes["extraction"]), denominator=GIBIBYTES, ratio=max(gibibytes["extraction"]) / GIBIBYTES,
            rounds=arguments.rounds, bar=1.0,
        ),
    ]  # fmt: skip
    for one in measured:
        print(f"{one.name}: {one.numerator:.2f} {one.unit}, {one.ratio:.2f} of {one.denominator:.2f}")
    write_json(arguments.json, measured)


def measure(arguments: argparse.Namespace) -> None:
    """Run one side, and print what it took as JSON."""
    model = load_model(arguments.model, threads=arguments.threads)
    shape = (1 if arguments.side == "forward" else arguments.threads, arguments.length)
    ids = np.random.default_rng(0).integers(100, model.config.vocab_size, size=shape)
    architecture = read_architecture(model)
    architecture.forward(torch.from_numpy(ids[:, :64]))  # first runs pay for lazy imports
    start = time.perf_counter()
    if arguments.side == "forward":
        model.set_attn_implementation("sdpa")
        architecture.forward(torch.from_numpy(ids))
    else:
        with tempfile.TemporaryDirectory() as folder:
            extract(
                architecture, ids, model="benchmark", sites={}, batch=1, activations=Path(folder) / "activations",
                scores=Path(folder) / "scores.parquet", workers=arguments.threads,
            )  # fmt: skip
    print(json.dumps({"seconds": (time.perf_counter() - start) / len(ids), "GiB": peak_gibibytes()}))


if __name__ == "__main__":
    main()
