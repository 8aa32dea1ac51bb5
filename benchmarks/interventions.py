"""What a sweep of interventions costs beside as many full forward passes, and the mask beside TransformerLens.

    python benchmarks/interventions.py results/models/smollm2-135m results/default/prompts/smollm2-135m/random_tokens.parquet

The sweep is that of the default study: every kind of edit, its strengths and positions, with all readouts and tables. It
is timed kind by kind, alternating with plain forward passes (language-model head included, the model's own attention),
whose time is multiplied with the number of edits. TransformerLens is timed where it is installed (pip install
transformer-lens==4.3.0, in an environment of its own): its forward pass with hooks that mask the position and keep the
attention on it and on position 0, and the norm there.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow_scripts"))

import torch
import yaml

from sinkorigin.architecture import read_architecture
from sinkorigin.interventions.points import facts_of, points_of
from sinkorigin.interventions.sweep import sweep
from sinkorigin.models import load_model
from sinkorigin.prompts import read_token_ids

LAYERS = (0, 1, 2, 3)


def timed(task) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def transformer_lens(directory: str, token_ids, batch: int, positions):
    """A task that masks each position in turn with TransformerLens' hooks, or None if it is not installed."""
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        return None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    bridge = TransformerBridge.boot_transformers(
        str(directory), hf_model=plain, tokenizer=AutoTokenizer.from_pretrained(directory), device="cpu"
    )
    depth = bridge.cfg.n_layers

    def task():
        for k in positions:

            def mask(scores, hook, k=k):
                scores[:, :, k, :] = torch.finfo(scores.dtype).min
                scores[:, :, k, k] = 0
                return scores

            kept = []

            def read(pattern, hook, k=k, kept=kept):
                kept.append((pattern[:, :, k + 1 :, k].mean(-1), pattern[:, :, 1:, 0].mean(-1)))

            def size(residual, hook, k=k, kept=kept):
                kept.append(residual[:, k].norm(dim=-1))

            hooks = [(f"blocks.{layer}.attn.hook_attn_scores", mask) for layer in LAYERS]
            hooks += [(f"blocks.{layer}.attn.hook_pattern", read) for layer in range(depth)]
            hooks += [(f"blocks.{layer}.hook_resid_post", size) for layer in range(depth)]
            with torch.no_grad():
                for first in range(0, len(token_ids), batch):
                    bridge.run_with_hooks(torch.from_numpy(token_ids[first : first + batch]), fwd_hooks=hooks)
            assert len(kept) == 2 * depth * -(-len(token_ids) // batch), "a hook was not called"

    return task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory of the workflow")
    parser.add_argument("prompts", help="its table of random tokens")
    parser.add_argument("--config", default="config.yaml", help="the study whose interventions are timed")
    parser.add_argument(
        "--statistics", help="folder of its statistics, for necessity edits; without it they are left out"
    )
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of the mask beside TransformerLens")
    arguments = parser.parse_args()
    config = yaml.safe_load(Path(arguments.config).read_text())
    batch = config["activations"]["batch"]
    model = load_model(arguments.model, threads=arguments.threads)
    architecture = read_architecture(model)
    everything = read_token_ids(arguments.prompts)
    token_ids = everything[: arguments.sequences]

    def forward():
        with torch.no_grad():
            for first in range(0, len(token_ids), batch):
                model(input_ids=torch.from_numpy(token_ids[first : first + batch]), use_cache=False)

    def run(entry, points):
        calibration = everything[-arguments.sequences :] if entry.get("calibration") else None
        with tempfile.TemporaryDirectory() as folder:
            sweep(
                architecture, token_ids, {Path(folder) / str(i): own for i, own in enumerate(points)}, model="benchmark",
                intervention=entry["name"], batch=batch, calibration=calibration,
            )  # fmt: skip

    forward()
    name = Path(arguments.model).name
    print(
        f"{name}: {len(token_ids)} x {token_ids.shape[1]} tokens, batches of {batch}, {arguments.threads} threads, ",
        end="",
    )
    print(f"torch {torch.__version__}; seconds")
    print(f"{'':24}{'edits':>7}{'sweep':>9}{'one forward':>13}{'ratio':>8}")
    total = whole = count = 0.0
    mask = None
    for entry in config["interventions"]:
        if "random_tokens" not in entry["prompts"]:
            continue
        needs = {
            "variance_matching": "variance",
            "super_neuron_ablation": "super_neurons",
            "dominating_dims": "disparity",
        }
        table = needs.get(entry["kind"])
        if table and not arguments.statistics:
            continue
        found = {table: Path(arguments.statistics) / f"{table}.parquet"} if table else {}
        facts = facts_of({"layers": None, **entry}, entry["name"], **found)
        points = [points_of(entry, strength, facts) for strength in entry.get("strengths", [1.0])]
        if entry["kind"] == "mask" and mask is None:
            mask = entry, points
        number = sum(map(len, points))
        before = timed(forward)
        seconds = timed(lambda entry=entry, points=points: run(entry, points))
        plain = (before + timed(forward)) / 2
        print(f"{entry['name']:24}{number:7}{seconds:9.2f}{plain:13.2f}{seconds / (number * plain):8.2f}", flush=True)
        total, whole, count = total + seconds, whole + number * plain, count + number
    print(f"{'whole sweep':24}{count:7.0f}{total:9.2f}{whole / count:13.2f}{total / whole:8.2f}")
    if mask is None:
        return
    entry, points = mask
    lens = transformer_lens(arguments.model, token_ids, batch, entry["positions"])
    if lens is None:
        print("TransformerLens is not installed here, so it was not timed")
        return
    lens()
    ratios = []
    for _ in range(arguments.rounds):
        own = timed(lambda: run(entry, points))
        other = timed(lens)
        ratios.append((own / other, own, other))
    middle = statistics.median(ratios)
    print(f"mask at {entry['positions']}: {middle[1]:.2f} s, TransformerLens {middle[2]:.2f} s, ratio {middle[0]:.2f}")


if __name__ == "__main__":
    main()
