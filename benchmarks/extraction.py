"""What an extraction costs beside a plain forward pass, and beside TransformerLens with the same tensors saved.

    python benchmarks/extraction.py results/models/smollm2-135m results/default/prompts/smollm2-135m/random_tokens.parquet

Every ratio comes from one run of this process: the timed things take turns, round by round, and the ratio of a round is
that of neighbours in time; the median over the rounds is printed. The plain forward pass is the model's own, with its
language-model head and the attention that transformers chooses. TransformerLens is timed where it is installed
(pip install transformer-lens==4.3.0, in an environment of its own), else its line says so: last, in rounds with an extraction
of the same tensors, because its second model in memory and the gigabytes that it leaves to the disk slow what runs beside them.
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]

import numpy as np
import torch
import yaml
from measured import add_json_option, alternating, compared, write_json

from harness.config.reading import read_config
from sinkorigin.activations.capture import watch_sites
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.writers import Kept
from sinkorigin.corpora.prompts import read_token_ids
from sinkorigin.models.loading import load_model
from sinkorigin.sites.architecture import read_architecture

CONFIG = Path(__file__).parents[1] / "config.yaml"
DEFAULT, EVERYTHING, LENS = "default study's sites", "every site and position", "TransformerLens, saved"
# every site whose tensor is no other's in a model without norms or gates around W_O
SITES = (
    "residual", "attention_input", "value_aggregation", "attention_output", "ffn_input", "ffn_activation", "ffn_output",
    "query", "key", "attention",
)  # fmt: skip
# the same tensors in TransformerLens' words; its hook_z is ours before the heads are concatenated, and its hook_normalized is
# what enters the attention, the FFN and the head
TRANSFORMER_LENS = (
    "hook_resid_post", "hook_normalized", "hook_z", "hook_attn_out", "hook_post", "hook_mlp_out", "hook_q", "hook_k",
    "hook_pattern",
)  # fmt: skip
BARS = {DEFAULT: 1.15, EVERYTHING: 1.0}


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
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sequences", type=int, help="take only so many")
    add_json_option(parser)
    arguments = parser.parse_args()
    kept = read_config(yaml.safe_load(CONFIG.read_text())).activations
    batch = kept.batch
    sites = {
        DEFAULT: {one.site: Kept(one.sequences, None if one.positions is None else tuple(one.positions)) for one in kept.sites},
        EVERYTHING: {site: Kept() for site in SITES},
    }  # fmt: skip

    model = load_model(arguments.model, threads=arguments.threads)
    architecture = read_architecture(model, sites=[site for some in sites.values() for site in some])
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

    def extraction(folder, name):
        extract(
            architecture, token_ids, model="benchmark", sites=sites[name], batch=batch, activations=folder / "activations",
            scores=folder / "scores.parquet", workers=arguments.threads,
        )  # fmt: skip
        raw = sum(size(folder / "activations" / site) for site in sites[name])
        written[name] = raw, size(folder) - raw

    tasks = {
        "forward pass": forward,
        DEFAULT: lambda folder: extraction(folder, DEFAULT),
        "forward pass, no LM head": decoder,
        EVERYTHING: lambda folder: extraction(folder, EVERYTHING),
    }
    seconds = alternating(tasks, arguments.rounds)
    beside = dict.fromkeys(tasks, seconds)  # what a task's rounds were
    found = [
        compared(f"extraction, {name}, beside a forward pass", seconds[name], seconds["forward pass"], bar=bar)
        for name, bar in ((DEFAULT, BARS[DEFAULT]), (EVERYTHING, None))
    ]
    lens = transformer_lens(arguments.model, token_ids, batch)
    if lens is not None:
        tasks[LENS] = lens[0]
        several = ("forward pass", EVERYTHING, "forward pass, no LM head", LENS)
        beside[LENS] = alternating({name: tasks[name] for name in several}, arguments.rounds)
        name = "extraction, every site and position, beside TransformerLens that saves the same tensors"
        found.append(compared(name, beside[LENS][EVERYTHING], beside[LENS][LENS], bar=BARS[EVERYTHING]))

    print(f"{Path(arguments.model).name}: {len(token_ids)} x {token_ids.shape[1]} tokens, batches of {batch}, ", end="")
    print(f"{arguments.threads} threads, {arguments.rounds} rounds, torch {torch.__version__}")
    print(f"{'':26}{'seconds':>9}{'/ forward':>11}{'/ no head':>11}{'raw MB':>9}{'/ float32':>11}{'tables MB':>11}")
    for name in tasks:
        rounds = beside[name]
        line = f"{name:26}{compared(name, rounds[name], rounds[name]).numerator:9.2f}"
        for base in ("forward pass", "forward pass, no LM head"):
            line += f"{compared(name, rounds[name], rounds[base]).ratio:11.2f}"
        if name in written:
            raw, others = written[name]
            plain = float32_bytes(architecture, sites[name], token_ids.size)
            line += f"{raw / 1e6:9.0f}{raw / plain:11.2f}{others / 1e6:11.0f}"
        elif lens is not None and name == LENS:
            line += f"{lens[1]['bytes'] / 1e6:9.0f}{1.0:11.2f}{'':11}"
        print(line)
    for one in found:
        print(f"{one.name}: {one.ratio:.2f}" + ("" if one.bar is None else f", bar {one.bar:g}"))
    if lens is None:
        print("TransformerLens is not installed here, so it was not timed")
    write_json(arguments.json, found)


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
