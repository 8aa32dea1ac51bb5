"""What planning costs: a dry run and a run with nothing to do, beside Snakemake's own start.

    python benchmarks/planning.py                        # the bars for a large study, by dry run of a config made here
    python benchmarks/planning.py --finished config.yaml # the bars for a finished study: dry run and no-op run

Wall and processor seconds and peak memory of whole commands, the least of some rounds; Snakemake's own start is that of an
empty workflow. The bars: 5 s beyond that start for the default study on two cores; 20 s and 600 MB for the large one.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import yaml
from measured import Cost, Measured, add_json_option, cost_of, write_json

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]

from sinkorigin.variants.registry import VARIANTS

ROOT = Path(__file__).parents[1]
BEYOND, LARGE, MEMORY = 5.0, 20.0, 600.0  # s, s and MB


def large_study() -> dict:
    """10 models, 4 prompt sets, 40 interventions on all of them, and 6 variants with 8 seeds, over config.yaml's own keys."""
    models = [
        {"name": f"model_{i}", "source": f"hub:owner/model_{i}@0123456789"} for i in range(5)
    ] + [{"name": f"random_{i}", "source": f"random:model_{i}"} for i in range(5)]  # fmt: skip
    prompts = [
        {"name": f"{kind}_{i}", "kind": kind, "sequences": 64, "length": 64, "seed": i}
        for kind in ("random_tokens", "natural_text")
        for i in range(2)
    ]
    names = {"models": [model["name"] for model in models], "prompts": [own["name"] for own in prompts]}
    interventions = [
        {"name": f"edit_{i}", "kind": "variance_amplification", **names, "layers": [0, 1], "positions": [5 + i], "strengths": [2, 4]}
        for i in range(40)
    ]  # fmt: skip
    run = {
        "data": "text", "seeds": list(range(8)), "layers": 2, "width": 64, "heads": 2, "kv_heads": 2, "ffn_width": 128,
        "length": 64, "batch": 4, "steps": 100, "warmup": 5, "learning_rate": 0.001, "evaluate_every": 10,
        "checkpoint_every": 50, "keep": [0, 50, 100],
    }  # fmt: skip
    return {
        "study": "large",
        "models": models,
        "prompts": prompts,
        "interventions": interventions,
        "pretraining": {
            "data": [{"name": "text", "kind": "text", "vocabulary": 512}],
            "prompts": names["prompts"],
            "studied_seeds": None,
            "runs": [{"name": variant, "variant": variant, **run} for variant in VARIANTS],
        },
    }


def least(command: list[str], folder: Path, rounds: int) -> Cost:
    """Cost of the round with the least wall time."""
    return min((cost_of(command, folder) for _ in range(rounds)), key=lambda cost: cost.seconds)


def shown(name: str, own: Cost) -> None:
    """Print what a command took."""
    print(
        f"{name}: {own.seconds:.1f} s, {own.processor_seconds:.1f} s of processor, {own.megabytes:.0f} MB", flush=True
    )


def beside(name: str, value: float, other: float, words: str, *, unit: str, rounds: int, bar: float | None) -> Measured:
    """A number beside another."""
    return Measured(
        name=f"{name}, beside {words}", numerator=value, denominator=other, ratio=value / other, unit=unit, rounds=rounds, bar=bar
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", nargs="+", metavar="CONFIG", help="config files of a finished study")
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser)
    arguments = parser.parse_args()
    rounds = arguments.rounds
    snakemake = [sys.executable, "-m", "snakemake"]
    with tempfile.TemporaryDirectory() as made:
        empty = Path(made) / "empty"
        empty.mkdir()
        (empty / "Snakefile").write_text("rule all:\n")
        start = least([*snakemake, "--dry-run", "--quiet", "all"], empty, rounds)
        shown("an empty workflow", start)
        config = Path(made) / "large.yaml"
        config.write_text(yaml.safe_dump(large_study()))
        own = least([*snakemake, "--configfile", str(config), "--dry-run", "--quiet", "all"], ROOT, rounds)
        name = "dry run of a large study"
        shown(name, own)
        found = [
            beside(name, own.seconds, start.seconds, "one of an empty workflow", unit="s", rounds=rounds, bar=None),
            beside(name, own.seconds, LARGE, f"{LARGE:g} s", unit="s", rounds=rounds, bar=1.0),
            beside(f"{name}, peak memory", own.megabytes, MEMORY, f"{MEMORY:g} MB", unit="MB", rounds=rounds, bar=1.0),
        ]
        for option, words in (
            (("--dry-run", "dry run"), ("--cores=2", "run with nothing to do")) if arguments.finished else ()
        ):
            own = least([*snakemake, "--configfile", *arguments.finished, option, "--quiet", "all"], ROOT, rounds)
            name = f"{words} of a finished study ({' '.join(arguments.finished)})"
            shown(name, own)
            beyond = own.seconds - start.seconds
            print(f"  {beyond:.1f} s beyond the start")
            found += [
                beside(name, own.seconds, start.seconds, "one of an empty workflow", unit="s", rounds=rounds, bar=None),
                beside(f"{name}, less that start", beyond, BEYOND, f"{BEYOND:g} s", unit="s", rounds=rounds, bar=1.0),
            ]  # fmt: skip
    write_json(arguments.json, found)


if __name__ == "__main__":
    main()
