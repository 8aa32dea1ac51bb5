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


def shown(name: str, own: Cost, start: Cost | None, rounds: int) -> list[Measured]:
    """Time and memory of a command beside those of an empty workflow; they are printed."""
    print(
        f"{name}: {own.seconds:.1f} s, {own.processor_seconds:.1f} s of processor, {own.megabytes:.0f} MB", flush=True
    )
    if start is None:
        return []
    return [
        Measured(
            name=f"{what} of {name}, beside an empty workflow", numerator=one, denominator=other, ratio=one / other,
            unit=unit, rounds=rounds,
        )
        for what, one, other, unit in (
            ("time", own.seconds, start.seconds, "s"),
            ("peak memory", own.megabytes, start.megabytes, "MB"),
        )
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finished", nargs="+", metavar="CONFIG", help="config files of a finished study")
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser)
    arguments = parser.parse_args()
    snakemake = [sys.executable, "-m", "snakemake"]
    with tempfile.TemporaryDirectory() as made:
        empty = Path(made) / "empty"
        empty.mkdir()
        (empty / "Snakefile").write_text("rule all:\n")
        start = least([*snakemake, "--dry-run", "--quiet", "all"], empty, arguments.rounds)
        shown("an empty workflow", start, None, arguments.rounds)
        config = Path(made) / "large.yaml"
        config.write_text(yaml.safe_dump(large_study()))
        large = [*snakemake, "--configfile", str(config), "--dry-run", "--quiet", "all"]
        own = least(large, ROOT, arguments.rounds)
        found = shown("a dry run of the large study", own, start, arguments.rounds)
        for name in ("--dry-run", "--cores=2"):
            if arguments.finished:
                own = least(
                    [*snakemake, "--configfile", *arguments.finished, name, "--quiet", "all"], ROOT, arguments.rounds
                )
                found += shown(f"{name} of {' '.join(arguments.finished)}", own, start, arguments.rounds)
                print(f"  {own.seconds - start.seconds:.1f} s beyond the start")
    write_json(arguments.json, found)


if __name__ == "__main__":
    main()
