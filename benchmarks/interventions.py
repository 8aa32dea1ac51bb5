"""What a sweep of interventions costs beside as many full forward passes, and the mask beside TransformerLens.

    python benchmarks/interventions.py results/models/smollm2-135m results/default/prompts/smollm2-135m/random_tokens.parquet

The sweep is that of the default study: every kind of edit, its strengths, layers and positions, with all readouts and tables.
As in the workflow, sweeps are run side by side, one thread each; the plain forward passes (language-model head included, the
model's own attention) get all threads, alternate with rounds of the sweep, and their time is multiplied with the number of
edits. TransformerLens is timed where it is installed (pip install
transformer-lens==4.3.0, in an environment of its own): its forward pass with hooks that mask the position and keep the
attention on it and on position 0, and the norm there.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]

import torch
import yaml
from measured import add_json_option, alternating, compared, timed, write_json

from harness.config.reading import read_config
from sinkorigin.corpora.prompts import read_token_ids
from sinkorigin.interventions.entries import edits_of, table_facts
from sinkorigin.interventions.kind import kind_named
from sinkorigin.interventions.layers import Structure, layers_of
from sinkorigin.interventions.sweep import Sweep, run_sweeps
from sinkorigin.models.loading import load_model
from sinkorigin.sites.architecture import read_architecture

LAYERS = (0, 1, 2, 3)
# by these the rules of the config give layers: SmolLM2's sink on random tokens begins at the last of them; of surges counts here
# how many they are
ONSET, SURGES = LAYERS[-1], LAYERS
BAR = 0.45


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

    def task(folder):
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


def jobs_of(config, structure: Structure, statistics_folder: str | Path | None):
    """Entry of each intervention of a study on random tokens, and its edits by strength.

    Args:
        config: of the study.
        structure: of the model, by which rules of the config give layers.
        statistics_folder: tables of the study, for edits that need them; None leaves those out.
    """
    jobs = []
    for entry in (edit.model_dump() for edit in config.interventions):
        needs = kind_named(entry["kind"]).needs
        if "random_tokens" in entry["prompts"] and (statistics_folder is not None or not needs):
            if entry["layers"] is not None:
                entry["layers"] = layers_of(entry["layers"], structure).layers
            tables = {needs.table: Path(statistics_folder) / f"{needs.table}.parquet"} if needs else {}
            facts = table_facts(entry, tables)
            jobs.append((entry, [edits_of(entry, strength, facts) for strength in entry["strengths"]]))
    return jobs


def run(folder: Path, architecture, everything, jobs, batch: int, sequences: int, workers: int) -> None:
    """Make the tables of all sweeps of (entry, edits by strength)."""
    scratch = folder / "scratch"
    scratch.mkdir()
    sweeps = {
        folder / entry["name"] / str(i): Sweep(entry["name"], some, entry["calibration"])
        for entry, edits in jobs
        for i, some in enumerate(edits)
    }
    run_sweeps(
        architecture, everything, sweeps, sequences=sequences, model="benchmark", batch=batch, workers=workers,
        scratch=scratch,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory of the workflow")
    parser.add_argument("prompts", help="its table of random tokens")
    parser.add_argument("--config", default="config.yaml", help="the study whose interventions are timed")
    parser.add_argument(
        "--statistics", help="folder of its statistics, for necessity edits; without it they are left out"
    )
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    add_json_option(parser)
    arguments = parser.parse_args()
    config = read_config(yaml.safe_load(Path(arguments.config).read_text()))
    batch = config.activations.batch
    model = load_model(arguments.model, threads=arguments.threads)
    architecture = read_architecture(model)
    jobs = jobs_of(config, Structure(architecture.layers, ONSET, SURGES), arguments.statistics)
    count = sum(len(some) for _, edits in jobs for some in edits)
    everything = read_token_ids(arguments.prompts)
    token_ids = everything[: arguments.sequences]

    def forward(folder):
        with torch.no_grad():
            for first in range(0, len(token_ids), batch):
                model(input_ids=torch.from_numpy(token_ids[first : first + batch]), use_cache=False)

    timed(forward)
    name = Path(arguments.model).name
    print(
        f"{name}: {len(token_ids)} x {token_ids.shape[1]} tokens, batches of {batch}, {arguments.threads} threads, ",
        end="",
    )
    print(f"torch {torch.__version__}; {len(jobs)} interventions, {count} edits", flush=True)

    def sweeps(some):
        return lambda folder: run(folder, architecture, everything, some, batch, len(token_ids), arguments.threads)

    timed(sweeps(jobs[:1]))  # first runs pay for lazy imports
    wholes, plains = [], []
    for _ in range(arguments.rounds):
        passes = [timed(forward) for _ in range(5)]
        whole = timed(sweeps(jobs))
        passes += [timed(forward) for _ in range(5)]
        # the mean, because the sweep is a sum over slow and fast moments too
        plain = statistics.mean(passes)
        wholes, plains = [*wholes, whole], [*plains, count * plain]
        print(f"sweep {whole:.1f} s, forward pass {plain:.2f} s, ratio {whole / plains[-1]:.2f}", flush=True)
    found = [compared(f"sweep of {count} edits, beside as many full forward passes", wholes, plains, bar=BAR)]
    print(f"median ratio {found[0].ratio:.2f}, bar {BAR:g}")
    write_json(arguments.json, found)
    mask = next((job for job in jobs if job[0]["kind"] == "mask"), None)
    if mask is None:
        return
    lens = transformer_lens(arguments.model, token_ids, batch, mask[0]["positions"])
    if lens is None:
        print("TransformerLens is not installed here, so it was not timed")
        return
    beside = alternating({"own": sweeps([mask]), "TransformerLens": lens}, 3)
    name = f"mask at {mask[0]['positions']}, beside hooks of TransformerLens"
    found.append(compared(name, beside["own"], beside["TransformerLens"]))
    print(f"{name}: {found[-1].numerator:.2f} s, {found[-1].denominator:.2f} s, ratio {found[-1].ratio:.2f}")
    write_json(arguments.json, found)


if __name__ == "__main__":
    main()
