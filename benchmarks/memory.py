"""Peak memory of an extraction, of a sweep of interventions and of a training, as multiples of the size of the model's weights.

    python benchmarks/memory.py results/models/smollm2-135m results/default/prompts/smollm2-135m/random_tokens.parquet \\
        results/default/pretraining/data/shakespeare/{tokens,tokenizer}

Each side runs in a process of its own, whose peak is that of its resident memory from beginning to end, with Python and all libraries: what
these take by themselves is a line too. Extraction and sweep are those of the default study on two batches of prompts; the peak does not grow
with their number. The training is that of 29 M parameters of ``pretraining.py``, for a few steps. Weights are counted in float32.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts")]

import torch
import yaml
from interventions import ONSET, SURGES, jobs_of, run
from measured import Measured, add_json_option, peak_gibibytes, write_json
from pretraining import SIZES, fresh_model
from transformers import AutoConfig, AutoModelForCausalLM

from harness.config.reading import read_config
from sinkorigin.activations.pipeline import extract
from sinkorigin.activations.writers import Kept
from sinkorigin.corpora.prompts import read_token_ids
from sinkorigin.interventions.layers import Structure
from sinkorigin.models.loading import load_model
from sinkorigin.pretraining.data import load_tokens
from sinkorigin.pretraining.loop import train
from sinkorigin.sites.architecture import Architecture, read_architecture

CONFIG = read_config(yaml.safe_load((ROOT / "config.yaml").read_text()))
BATCHES, STEPS = 2, 3


def gibibytes_of(model: torch.nn.Module) -> float:
    """Size of a model's weights in float32; what is tied counts once."""
    return sum(parameter.numel() for parameter in model.parameters()) * 4 / 2**30


def studied(arguments: argparse.Namespace, sites=()) -> tuple[Architecture, float]:
    """The studied model, and the GiB of its weights."""
    model = load_model(arguments.model, threads=arguments.threads)
    return read_architecture(model, sites=list(sites)), gibibytes_of(model)


def libraries(arguments: argparse.Namespace, folder: Path) -> float:
    """Nothing but the imports, beside the studied model."""
    with torch.device("meta"):  # its size without its weights
        return gibibytes_of(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(arguments.model)))


def forward(arguments: argparse.Namespace, folder: Path) -> float:
    """Plain forward passes with the language-model head."""
    model = load_model(arguments.model, threads=arguments.threads)
    batch = CONFIG.activations.batch
    token_ids = read_token_ids(arguments.prompts)[: BATCHES * batch]
    with torch.no_grad():
        for first in range(0, len(token_ids), batch):
            model(input_ids=torch.from_numpy(token_ids[first : first + batch]), use_cache=False)
    return gibibytes_of(model)


def extraction(arguments: argparse.Namespace, folder: Path) -> float:
    """Extraction of the default study's sites."""
    kept = CONFIG.activations
    sites = {
        one.site: Kept(one.sequences, None if one.positions is None else tuple(one.positions)) for one in kept.sites
    }
    architecture, size = studied(arguments, sites)
    extract(
        architecture, read_token_ids(arguments.prompts)[: BATCHES * kept.batch], model="benchmark", sites=sites, batch=kept.batch,
        activations=folder / "activations", scores=folder / "scores.parquet", workers=arguments.threads,
    )  # fmt: skip
    return size


def sweep(arguments: argparse.Namespace, folder: Path) -> float:
    """Sweep of all interventions of the default study that need no table of it."""
    architecture, size = studied(arguments)
    jobs = jobs_of(CONFIG, Structure(architecture.layers, ONSET, SURGES), None)
    batch = CONFIG.activations.batch
    run(folder, architecture, read_token_ids(arguments.prompts), jobs, batch, BATCHES * batch, arguments.threads)
    return size


def training(arguments: argparse.Namespace, folder: Path) -> float:
    """Training of a few steps, with evaluation and a saved state."""
    settings = replace(
        SIZES["30m"],
        steps=STEPS,
        warmup=1,
        evaluate_every=STEPS,
        checkpoint_every=STEPS,
        validation_tokens=1024,
        compile=False,
    )
    size = gibibytes_of(fresh_model(settings, load_tokens(arguments.tokens).vocabulary))
    train(
        settings, seed=0, tokens_directory=arguments.tokens, tokenizer_directory=arguments.tokenizer,
        run_directory=folder / "run", state_directory=folder / "state", threads=arguments.threads,
    )  # fmt: skip
    return size


SIDES: dict[str, tuple[str, Callable[[argparse.Namespace, Path], float]]] = {
    "libraries": ("Python with the libraries and no model", libraries),
    "forward": ("plain forward passes", forward),
    "extraction": ("extraction, default study's sites", extraction),
    "sweep": ("sweep of the default study's interventions", sweep),
    "training": ("training of 29 M parameters", training),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory of the workflow")
    parser.add_argument("prompts", help="its table of random tokens")
    parser.add_argument("tokens", help="a directory of token files of the workflow")
    parser.add_argument("tokenizer", help="its tokenizer")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    add_json_option(parser)
    arguments = parser.parse_args()
    if arguments.side:
        with tempfile.TemporaryDirectory() as folder:
            size = SIDES[arguments.side][1](arguments, Path(folder))
        print(json.dumps({"peak": peak_gibibytes(), "weights": size}))
        return
    found = []
    for side in arguments.sides:
        places = [arguments.model, arguments.prompts, arguments.tokens, arguments.tokenizer]
        command = [sys.executable, __file__, *places, "--threads", str(arguments.threads), "--side", side]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        own = json.loads(said.splitlines()[-1])
        name = f"peak memory, {SIDES[side][0]}, beside the model's weights"
        ratio = own["peak"] / own["weights"]
        found.append(Measured(name=name, numerator=own["peak"], denominator=own["weights"], ratio=ratio, unit="GiB"))
        print(f"{name}: {own['peak']:.2f} GiB, {ratio:.2f} of {own['weights']:.2f} GiB", flush=True)
    write_json(arguments.json, found)


if __name__ == "__main__":
    main()
