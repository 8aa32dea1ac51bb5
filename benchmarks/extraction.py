"""What an extraction costs beside a plain forward pass, and beside TransformerLens and nnsight that save the same tensors.

    python benchmarks/extraction.py results/models/smollm2-135m results/default/prompts/smollm2-135m/random_tokens.parquet

Every ratio comes from one run of this process: the timed things take turns, round by round, and the ratio of a round is
that of neighbours in time; the median over the rounds is printed. The plain forward pass is the model's own, with its
language-model head and the attention that transformers chooses. TransformerLens and nnsight are timed where they are installed
(pip install transformer-lens==4.3.0 nnsight==0.8.1, in an environment of its own), else a line says so: last and one after the
other, in rounds with an extraction of the same tensors, because a second model in memory and the gigabytes that are left to the disk slow
what runs beside them.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as the job does, workflow_scripts/extract_activations.py

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
DEFAULT, EVERYTHING = "default study's sites", "every site and position"
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


def batches(token_ids: np.ndarray, batch: int):
    """First sequence of each batch, and its token ids."""
    for first in range(0, len(token_ids), batch):
        yield first, torch.from_numpy(token_ids[first : first + batch])


def save(folder: Path, first: int, tensors) -> int:
    """Save the tensors of the batch that begins with sequence ``first``; how many bytes they are."""
    for name, tensor in tensors.items():
        np.save(folder / f"{name}-{first}.npy", tensor.numpy())
    return sum(tensor.nbytes for tensor in tensors.values())


def transformer_lens(directory: str, token_ids: np.ndarray, batch: int) -> Callable[[Path], int]:
    """A task that runs run_with_cache, saves the cached tensors, and returns how many bytes they are."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    bridge = TransformerBridge.boot_transformers(
        str(directory), hf_model=plain, tokenizer=AutoTokenizer.from_pretrained(directory), device="cpu"
    )

    def task(folder: Path) -> int:
        saved = 0
        with torch.no_grad():
            for first, ids in batches(token_ids, batch):
                _, cache = bridge.run_with_cache(
                    ids, names_filter=lambda name: name.rpartition(".")[2] in TRANSFORMER_LENS
                )
                saved += save(folder, first, cache)
        return saved

    return task


def nnsight_trace(directory: str, token_ids: np.ndarray, batch: int) -> Callable[[Path], int]:
    """A task that traces a model whose modules have Llama's names, saves the traced tensors, and returns how many bytes they are.

    As in TransformerLens' cache, queries and keys are those before the rotation.
    """
    import nnsight
    from transformers import AutoModelForCausalLM

    # of transformers' kinds of attention the one that returns the weights
    plain = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    traced = nnsight.NNsight(plain)

    def task(folder: Path) -> int:
        saved = 0
        for first, ids in batches(token_ids, batch):
            with torch.no_grad(), traced.trace(input_ids=ids, use_cache=False):
                tensors = nnsight.save({})
                for number, layer in enumerate(traced.model.layers):  # in the order in which modules run
                    attention, ffn = layer.self_attn, layer.mlp
                    tensors[f"{number}.attention_input"] = layer.input_layernorm.output
                    tensors[f"{number}.query"] = attention.q_proj.output
                    tensors[f"{number}.key"] = attention.k_proj.output
                    tensors[f"{number}.value_aggregation"] = attention.o_proj.input
                    tensors[f"{number}.attention_output"], tensors[f"{number}.attention"] = attention.output
                    tensors[f"{number}.ffn_input"] = layer.post_attention_layernorm.output
                    tensors[f"{number}.ffn_activation"] = ffn.down_proj.input
                    tensors[f"{number}.ffn_output"] = ffn.output
                    tensors[f"{number}.residual"] = layer.output
            saved += save(folder, first, tensors)
        return saved

    return task


OTHERS = {"TransformerLens": transformer_lens, "nnsight": nnsight_trace}


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

    def forward(folder):
        with torch.no_grad():
            for _, ids in batches(token_ids, batch):
                model(input_ids=ids, use_cache=False)

    def decoder(folder):
        for _, ids in batches(token_ids, batch):
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
    saved = {}
    for other, prepared in OTHERS.items():
        try:
            task = prepared(arguments.model, token_ids, batch)
        except ImportError:
            print(f"{other} is not installed here, so it was not timed")
            continue

        def counted(folder, other=other, task=task):
            saved[other] = task(folder)

        several = ("forward pass", EVERYTHING, "forward pass, no LM head")
        beside[other] = alternating({**{name: tasks[name] for name in several}, other: counted}, arguments.rounds)
        name = f"extraction, every site and position, beside {other} that saves the same tensors"
        found.append(compared(name, beside[other][EVERYTHING], beside[other][other], bar=BARS[EVERYTHING]))
        del task, counted  # and the model that it holds

    print(f"{Path(arguments.model).name}: {len(token_ids)} x {token_ids.shape[1]} tokens, batches of {batch}, ", end="")
    print(f"{arguments.threads} threads, {arguments.rounds} rounds, torch {torch.__version__}")
    print(f"{'':26}{'seconds':>9}{'/ forward':>11}{'/ no head':>11}{'raw MB':>9}{'/ float32':>11}{'tables MB':>11}")
    for name, rounds in beside.items():
        line = f"{name:26}{compared(name, rounds[name], rounds[name]).numerator:9.2f}"
        for base in ("forward pass", "forward pass, no LM head"):
            line += f"{compared(name, rounds[name], rounds[base]).ratio:11.2f}"
        if name in written:
            raw, others = written[name]
            plain = float32_bytes(architecture, sites[name], token_ids.size)
            line += f"{raw / 1e6:9.0f}{raw / plain:11.2f}{others / 1e6:11.0f}"
        elif name in saved:
            line += f"{saved[name] / 1e6:9.0f}{1.0:11.2f}{'':11}"
        print(line)
    for one in found:
        print(f"{one.name}: {one.ratio:.2f}" + ("" if one.bar is None else f", bar {one.bar:g}"))
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
