"""What an extraction costs beside a plain forward pass, and beside TransformerLens with the same tensors saved.

    python benchmarks/extraction.py results/models/smollm2-135m results/default/prompts/smollm2-135m/random_tokens.parquet

Every ratio comes from one run of this process: the timed things alternate, round by round, and the ratio of a round is
that of neighbours in time; the median over the rounds is printed. TransformerLens is timed where it is installed
(pip install transformer-lens==4.3.0, in an environment of its own), else its line says so: last, in rounds with a forward
pass, because its second model in memory and the gigabytes that it leaves to the disk slow what runs beside them.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]

import numpy as np
import torch

from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.writers import Kept
from sinkorigin.corpora.prompts import read_token_ids
from sinkorigin.models.loading import load_model
from sinkorigin.sites.architecture import read_architecture
from sinkorigin.sites.registry import SITES

POSITIONS = (0, 1, 2, 4, 8, 16, 32, 48)
DEFAULT_STUDY = {
    "value_aggregation": Kept(),
    "attention_output": Kept(positions=POSITIONS),
    "ffn_output": Kept(positions=POSITIONS),
    "residual": Kept(positions=POSITIONS),
}
EVERYTHING = {site: Kept() for site in SITES}
# the same tensors as EVERYTHING, in TransformerLens' words; its hook_z is ours before the heads are concatenated
TRANSFORMER_LENS = (
    "hook_resid_post", "hook_normalized", "hook_attn_out", "hook_mlp_in", "hook_post", "hook_mlp_out", "hook_z", "hook_q",
    "hook_k", "hook_pattern",
)  # fmt: skip


def timed(task) -> float:
    """Seconds of a task that may write into a folder; emptying that is not its work."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        task(Path(folder))
        return time.perf_counter() - start


def alternating(tasks, rounds: int) -> dict[str, list[float]]:
    """Seconds of each task in every round."""
    for task in tasks.values():  # first runs pay for memory and lazy imports
        timed(task)
    seconds = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            seconds[name].append(timed(task))
    return seconds


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def transformer_lens(directory: str, token_ids: np.ndarray, batch: int):
    """A task that runs run_with_cache and saves the cached tensors, and what it saved in bytes; None if not installed."""
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        return None
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    bridge = TransformerBridge.boot_transformers(
        str(directory), hf_model=plain, tokenizer=AutoTokenizer.from_pretrained(directory), device="cpu"
    )
    saved = {"bytes": 0, "tensors": 0}

    def task(folder: Path, names=TRANSFORMER_LENS):
        saved.update(bytes=0, tensors=0)
        with torch.no_grad():
            for first in range(0, len(token_ids), batch):
                ids = torch.from_numpy(token_ids[first : first + batch])
                _, cache = bridge.run_with_cache(ids, names_filter=lambda name: name.rpartition(".")[2] in names)
                for name, value in cache.items():
                    np.save(folder / f"{name}-{first}.npy", value.numpy())
                    saved["bytes"] += value.numel() * value.element_size()
                    saved["tensors"] += 1

    return task, saved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory of the workflow")
    parser.add_argument("prompts", help="a prompt table")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequences", type=int, help="take only so many")
    arguments = parser.parse_args()
    batch = arguments.batch

    model = load_model(arguments.model, threads=arguments.threads)
    architecture = read_architecture(model)
    token_ids = read_token_ids(arguments.prompts)[: arguments.sequences]

    def batches():
        for first in range(0, len(token_ids), batch):
            yield torch.from_numpy(token_ids[first : first + batch])

    def forward(folder):
        with torch.no_grad():
            for ids in batches():
                model(input_ids=ids, use_cache=False)

    def decoder(folder):
        for ids in batches():
            architecture.forward(ids)

    written = {}

    def extraction(folder, name, sites):
        extract(
            architecture, token_ids, model="benchmark", sites=sites, batch=batch, activations=folder / "activations",
            scores=folder / "scores.parquet", workers=arguments.threads,
        )  # fmt: skip
        raw = sum(size(folder / "activations" / site) for site in sites)
        written[name] = raw, size(folder) - raw

    tasks = {
        "forward pass": forward,
        "default study's sites": lambda folder: extraction(folder, "default study's sites", DEFAULT_STUDY),
        "forward pass, no LM head": decoder,
        "every site and position": lambda folder: extraction(folder, "every site and position", EVERYTHING),
    }
    seconds = alternating(tasks, arguments.rounds)
    lens = transformer_lens(arguments.model, token_ids, batch)
    beside = dict.fromkeys(tasks, seconds)  # what a task's rounds were
    if lens is not None:
        name = "TransformerLens, saved"
        tasks[name] = lens[0]
        beside[name] = alternating(
            {other: tasks[other] for other in ("forward pass", "forward pass, no LM head", name)}, arguments.rounds
        )

    def ratio(name, base):
        return statistics.median(a / b for a, b in zip(beside[name][name], beside[name][base], strict=True))

    tokens = token_ids.size
    print(f"{Path(arguments.model).name}: {len(token_ids)} x {token_ids.shape[1]} tokens, batches of {batch}, ", end="")
    print(f"{arguments.threads} threads, {arguments.rounds} rounds, torch {torch.__version__}")
    print(f"{'':26}{'seconds':>9}{'/ forward':>11}{'/ no head':>11}{'raw MB':>9}{'/ float32':>11}{'tables MB':>11}")
    for name in tasks:
        line = f"{name:26}{statistics.median(beside[name][name]):9.2f}"
        line += f"{ratio(name, 'forward pass'):11.2f}{ratio(name, 'forward pass, no LM head'):11.2f}"
        if name in written:
            raw, others = written[name]
            sites = DEFAULT_STUDY if name.startswith("default") else EVERYTHING
            line += f"{raw / 1e6:9.0f}{raw / float32_bytes(architecture, sites, tokens):11.2f}{others / 1e6:11.0f}"
        elif lens is not None and name.startswith("TransformerLens"):
            line += f"{lens[1]['bytes'] / 1e6:9.0f}{1.0:11.2f}{'':11}"
        print(line)
    if lens is None:
        print("TransformerLens is not installed here, so it was not timed")


def float32_bytes(architecture, sites, tokens: int) -> int:
    """Size of the kept vectors as plain float32."""
    widths: dict[str, list[int]] = {site: [] for site in sites}
    length = 64
    with watch_sites(architecture, list(sites), lambda layer, site, x: widths[site].append(x.shape[-1])):
        architecture.forward(torch.zeros((1, length), dtype=torch.long))
    total = 0
    for site, kept in sites.items():
        share = 1 if kept.positions is None else len(kept.positions) / length
        total += int(sum(widths[site]) * tokens * share * 4)
    return total


if __name__ == "__main__":
    main()
