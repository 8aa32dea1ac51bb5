"""A copy of the project with a tiny study: a random-weight model made here and a page of text, run once for all tests."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

import forks
from planned_jobs import planned_jobs

ROOT = Path(__file__).parents[1]

TINY = {
    "study": "tiny",
    "models": [
        {"name": "tiny", "source": "path:tiny_model"},
        {"name": "tiny-random", "source": "random:tiny", "seed": 0},
    ],
    "corpus": {"source": "path:text", "members": ["*.txt"], "validation_share": 0.4, "seed": 0},
    "prompts": [
        {"name": "random_tokens", "kind": "random_tokens", "sequences": 12, "length": 16, "seed": 0},
        {"name": "natural_text", "kind": "natural_text", "sequences": 8, "length": 16, "seed": 0},
    ],
    "activations": {
        "batch": 4,
        "sites": [
            {"site": "value_aggregation"},
            {"site": "output_projection_output", "positions": [0, 1, 4, 8]},
            {"site": "residual", "sequences": 2, "positions": [0, 5]},
        ],
    },
    "statistics": {"replicates": 40},
    "interventions": [
        {"kind": kind, "models": ["tiny"], "prompts": ["random_tokens"], "layers": [0, 1], "positions": [5], "sequences": 8, **other, "name": name}
        for name, kind, other in [
            ("mask", "mask", {"positions": [5, [3, 6]]}),
            ("variance_amplification", "variance_amplification", {"strengths": [2, 4]}),
            ("norm_control", "norm_control", {"strengths": [2, 4]}),
            ("random_directions", "random_directions", {"strengths": [4], "calibration": 4}),
            ("mask_late", "mask", {"layers": "late"}),
            ("grid", "mean_and_deviation", {"strengths": [1, 2], "mean_factors": [1, 2]}),
            ("matched", "variance_matching", {"positions": [0], "prompts": ["random_tokens", "natural_text"]}),
            ("averaged", "value_averaging", {"positions": [0], "strengths": [2]}),
            ("zeroed", "dominating_dims", {"positions": [0], "to": "zero", "layers": [1]}),
            ("silent", "super_neuron_ablation", {"positions": [0], "layers": None}),  # the tiny model has no super neuron
        ]
    ],
    "pretraining": {
        "data": [
            {"name": "plays", "kind": "text", "vocabulary": 300},
            {"name": "backcopy", "kind": "bigram_backcopy", "vocabulary": 20, "triggers": 2, "tokens": 10000},
        ],
        "prompts": ["natural_text"],
        "studied_seeds": None,
        "learning_rates": {"rates": [0.004, 0.008]},
        "runs": [
            {
                "name": name, "data": data, "first_token": data == "backcopy", "variant": variant, "seeds": [0], "layers": 2,
                "width": 32, "heads": 2, "kv_heads": 2, "ffn_width": 64, "length": 16, "batch": 4, "steps": 20, "warmup": 2,
                "learning_rate": 0.004, "evaluate_every": 10, "checkpoint_every": 10,
                "keep": [0, 10, 20] if name == "softmax" else [],
            }
            for name, data, variant in (
                ("softmax", "plays", "softmax"),
                ("headwise_rmsnorm", "plays", "headwise_rmsnorm"),
                ("backcopy", "backcopy", "softmax"),
            )
        ],
    },
}  # fmt: skip


# figures that show every model
FIGURES = [
    "evidence",
    "anatomy",
    "variance_by_position",
    "variance_through_output",
    "norm_and_sink_by_layer",
    "super_neurons",
    "channel_sparsity",
    "dominance_ratio_by_layer",
    "massive_activations",
    "key_collapse",
    "query_alignment",
    "sinks_by_position",
    "effective_rank_by_layer",
]

INTERVENTION_FIGURES = [
    "sink_by_intervention",
    "intervention_contrasts",
    "conversion_curves",
    "mask_by_layers_and_position",
    "edited_layers",
    "dispersion_grid",
    "necessity",
]

# of the edits that are followed through the chain
MECHANISM_FIGURES = ["position_or_token", "chain", "removals", "interchange"]


@dataclass
class Project:
    """A checkout in ``folder`` and the tiny study's config in it."""

    folder: Path
    arguments = ("--configfile", "tiny.yaml", "--cores", "4")

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    def write_config(self, config=None) -> None:
        (self.folder / "tiny.yaml").write_text(yaml.safe_dump(TINY if config is None else config, sort_keys=False))

    def command(self, *arguments) -> list[str]:
        return [sys.executable, "-m", "snakemake", *self.arguments, *map(str, arguments)]

    def environment(self) -> dict:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "COLUMNS": "400", "NO_COLOR": "1"}

    def run(self, *arguments, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """Run the study, in forks of processes that have imported what takes seconds."""
        given = [*self.arguments, *map(str, arguments)]
        return _done(forks.snakemake(given, self.folder, self.environment() | environment), check)

    def run_by_command(self, *arguments) -> subprocess.CompletedProcess:
        """Run the study as a user does, where it matters how its processes begin and end."""
        given = self.command(*arguments)
        done = subprocess.run(given, cwd=self.folder, env=self.environment(), capture_output=True, text=True)
        return _done(done, check=True)

    def planned_jobs(self) -> set[str]:
        """The jobs that would run, see :func:`planned_jobs.job`: the real DAG, not run."""
        return planned_jobs(self.folder, self.arguments)

    def copy(self, folder: Path) -> "Project":
        """An independent copy, with results and Snakemake's records, times included."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", self.folder, folder], check=True)
        return Project(folder)


def _done(run: subprocess.CompletedProcess, check: bool) -> subprocess.CompletedProcess:
    if check and run.returncode:
        raise AssertionError(f"{run.args} ended with {run.returncode}:\n{run.stdout}\n{run.stderr}")
    return run


def wait_until(condition, seconds: float) -> bool:
    """Whether a condition becomes true within so many seconds; returns as soon as it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


def checkout(folder: Path) -> Project:
    """The project's files, as a clone has them, in ``folder``."""
    leave_out = shutil.ignore_patterns(".git", ".venv", ".snakemake", "results", "site", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=leave_out)
    return Project(folder)


def write_text(folder: Path) -> None:
    """Five documents of made-up speech, with paragraphs."""
    words = [
        "the",
        "king",
        "of",
        "night",
        "shall",
        "speak",
        "and",
        "love",
        "no",
        "more",
        "than",
        "day",
        "to",
        "thee",
        "my",
        "lord",
        "if",
        "thou",
        "art",
        "here",
        "or",
        "gone",
    ]
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(5):
        paragraphs = [" ".join(rng.choice(words, size=rng.integers(30, 60))) for _ in range(24)]
        (folder / f"play_{number}.txt").write_text("\n\n".join(paragraphs) + "\n")


def write_model(folder: Path, text: Path) -> None:
    """A tiny Llama with grouped queries and its own tokenizer."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(path) for path in sorted(text.glob("*.txt"))], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="<s>")
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def take_bos_away(model: Path) -> None:
    """Let no file of a model directory name a BOS."""
    for name in ("tokenizer_config.json", "config.json", "generation_config.json"):
        path = model / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"bos_token": None, "bos_token_id": None}))


def digests(folder: Path) -> dict[str, str]:
    """Path of every table under ``folder`` → its sha256."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }
