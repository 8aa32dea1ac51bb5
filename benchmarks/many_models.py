"""A study of many tiny models on a Slurm of one node, in which jobs fail at random and some models always fail, to its page.

    python benchmarks/many_models.py [--models 50] [--seed 0] [--folder results/many_models] [--plan]

Models of many architectures, with random weights, are made in the folder, and each gets the same 20 interventions. While the study runs,
jobs are cancelled, or a process of theirs is killed, as draws of the seed say; they are retried. Of the last models, weights are damaged:
these fail whenever they are tried, and must cost their own rows only. Ends with a table of it, and with status 1 where anything else
was lost. Needs root and the packages slurm-wlm and munge, as tests/cluster does. ``--plan`` only plans the study, and tells what planning
costs. Slurm's jobs are forks of a process that has imported PyTorch and Snakemake (tests/forks.py), so that many models fit on a small
machine; with ``--processes``, they are processes of their own, as a user's are.
"""

import argparse
import ctypes
import html
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from measured import cost_of

from forks import Server
from local_slurm import LocalSlurm, fill_in, snakemake
from sinkorigin.support.tiny import tiny_model
from tiny_study import Project, checkout, write_model, write_text

STUDY = "many"
TYPES = [
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "olmo", "olmo2", "cohere", "gpt2", "gpt_neox",
    "opt", "mixtral", "qwen3_moe", "bloom", "falcon", "gptj", "stablelm", "starcoder2", "granite", "glm", "mpt",
]  # fmt: skip
# name → what it has beside the positions and layers of all
INTERVENTIONS: dict[str, dict] = {
    "mask": {"positions": [5, 10]},
    "mask_first_layer": {"kind": "mask", "layers": "first"},
    "mask_middle_layers": {"kind": "mask", "layers": "middle"},
    "mask_late_layers": {"kind": "mask", "layers": "late"},
    "mask_two": {"kind": "mask", "positions": [[5, 10]]},
    "other_token_only": {"positions": [2]},  # to whom a window of four tokens shows all earlier ones
    "blind_to_first": {"positions": [2]},
    "window": {"strengths": [2, 4]},
    "variance_amplification": {"strengths": [2, 4]},
    "norm_control": {"strengths": [2, 4]},
    "random_directions": {"strengths": [2, 4], "calibration": 4},
    "mean_shift": {"strengths": [2, 4]},
    "shuffled_deviations": {"strengths": [1, 2]},
    "mean_and_deviation": {"strengths": [1, 2], "mean_factors": [0, 2]},
    "amplified_after_output": {"kind": "variance_amplification", "strengths": [4], "site": "output_projection_output"},
    "random_after_output": {"kind": "random_directions", "strengths": [4], "site": "output_projection_output", "calibration": 4},
    "matched_variance": {"kind": "variance_matching", "positions": [0]},
    "averaged_values": {"kind": "value_averaging", "positions": [0], "strengths": [2]},
    "silent_super_neurons": {"kind": "super_neuron_ablation", "positions": [0], "layers": None},
    "zeroed_dims": {"kind": "dominating_dims", "positions": [0], "to": "zero", "layers": [1]},
}  # fmt: skip


def study(models: list[str]) -> dict:
    """Config of a study of these models."""
    prompts = [{"name": "random_tokens", "kind": "random_tokens", "sequences": 12, "length": 16, "seed": 0}]
    shared = {"layers": [0, 1], "positions": [10], "prompts": ["random_tokens"], "sequences": 8}
    return {
        "study": STUDY,
        "models": [{"name": name, "source": f"path:models/{name}", "control": False} for name in models],
        "prompts": prompts,
        "activations": {
            "batch": 12,
            "sites": [
                {"site": "value_aggregation"},
                {"site": "output_projection_output", "positions": [0, 1, 4, 8]},
                {"site": "residual", "sequences": 2, "positions": [0, 5]},
            ],
        },
        "statistics": {"replicates": 40},
        "interventions": [
            shared | {"name": name, "kind": name} | own for name, own in INTERVENTIONS.items()
        ],
        "pretraining": {"runs": [], "data": [], "prompts": ["random_tokens"]},
        "figures": {"formats": ["svg"]},
    }  # fmt: skip


def write_models(folder: Path, tokenizer: Path, count: int, failing: int) -> tuple[list[str], list[str]]:
    """Write models below a folder, each with this tokenizer; names of all, and of those that are damaged."""
    import torch

    names = []
    for number in range(count):
        kind = TYPES[number % len(TYPES)]
        names.append(f"{kind.replace('_', '-')}-{number // len(TYPES)}")
        place = folder / names[-1]
        model = tiny_model(kind)
        torch.manual_seed(number)
        weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
        with torch.no_grad():
            for parameter in weights:
                parameter.add_(0.05 * torch.randn_like(parameter))
            if number >= count - failing:
                weights[number % 2][1, 2] = torch.nan
        model.save_pretrained(place)
        for file in tokenizer.glob("tokenizer*"):
            shutil.copy(file, place)
    return names, names[count - failing :]


class Faults(threading.Thread):
    """Ends some of the cluster's jobs, as draws of a seed say, and notes what becomes of all.

    Attributes:
        jobs: number → what the controller says of a job, its state and comment.
        ended: number → how the job was ended here.
    """

    def __init__(self, slurm: LocalSlurm, seed: int, share: float):
        super().__init__(daemon=True)
        self._slurm, self._seed, self._share = slurm, seed, share
        self._due: dict[str, tuple[float, str]] = {}
        self._drawn: Counter[str] = Counter()
        self._over = threading.Event()
        self.jobs: dict[str, tuple[str, str]] = {}
        self.ended: dict[str, str] = {}

    def run(self) -> None:
        while not self._over.wait(0.5):
            self._look()
            for number, (due, way) in list(self._due.items()):
                if time.monotonic() >= due:
                    del self._due[number]
                    if self._end(number, way):
                        self.ended[number] = way
        self._look()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _look(self) -> None:
        said = self._slurm.ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%k").stdout
        for number, state, comment in (line.split("|", 2) for line in said.splitlines() if line.count("|") >= 2):
            first = state == "RUNNING" and self.jobs.get(number, ("", ""))[0] != "RUNNING"
            self.jobs[number] = (state, comment)
            if first:
                draw = random.Random(f"{self._seed}/{comment}/{self._drawn[comment]}")
                self._drawn[comment] += 1
                if draw.random() < self._share:
                    self._due[number] = (time.monotonic() + draw.uniform(0, 4), draw.choice(["cancelled", "killed"]))

    def _end(self, number: str, way: str) -> bool:
        """Whether a job was still there to be ended."""
        if way == "cancelled":
            return self.jobs[number][0] == "RUNNING" and not self._slurm.ask("scancel", number).returncode
        listed = self._slurm.ask("scontrol", "listpids", number).stdout
        processes = [int(found) for found in re.findall(r"^ *(\d+)", listed, re.MULTILINE)]
        # the last is the job's script, or what starts it
        for process in sorted(processes, reverse=True):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
                return True
        return False


def run(folder: Path, project: Project, arguments: argparse.Namespace) -> tuple[Faults, float, float, str]:
    """Run the study; the faults, seconds on the wall and of the processor, and what Snakemake said."""
    ctypes.CDLL(None).prctl(36, 1)  # the daemons' processes become children of this one, so that their time is known
    began = time.perf_counter()
    server = None if arguments.processes else Server()
    python, *given = snakemake(*arguments.snakemake)
    with LocalSlurm(folder / "slurm") as slurm:
        fill_in(project.folder)
        faults = Faults(slurm, arguments.seed, arguments.share)
        faults.start()
        with (folder / "said.log").open("w") as said:
            subprocess.run(
                [server.python if server else python, *given], cwd=project.folder, env=slurm.environment(), stdout=said,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        faults.stop()
    if server:
        server.end()
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    times = os.times()
    return (
        faults,
        time.perf_counter() - began,
        times.children_user + times.children_system,
        (folder / "said.log").read_text(),
    )


def lost(results: Path, models: list[str], failing: list[str]) -> tuple[dict[str, Counter], list[str]]:
    """Model → verdicts on its rows; and sentences on everything that should be there and is not."""
    if not (results / "index.html").is_file() or not (results / "claims.parquet").is_file():
        return {model: Counter() for model in models}, ["there are no claims or there is no page"]
    claims = pl.read_parquet(results / "claims.parquet")
    page = html.unescape((results / "index.html").read_text())
    told = page[page.index("This is not the whole study") : page.index("What was found")] if failing else ""
    verdicts = {model: Counter(claims.filter(model=model)["verdict"].to_list()) for model in models}
    wrong = []
    for model in models:
        statistics = list((results / "statistics" / model).rglob("*.parquet"))
        if model in failing:
            if set(verdicts[model]) != {"not applicable"}:
                wrong.append(f"{model} fails, and has the verdicts {dict(verdicts[model])}")
            if f"<li>{model} on" not in told and f"{model} " not in told:
                wrong.append(f"{model} fails, and the page does not say so")
        elif len(statistics) < 30 or set(verdicts[model]) <= {"not applicable"}:
            wrong.append(f"{model} has {len(statistics)} tables and the verdicts {dict(verdicts[model])}")
    return verdicts, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--failing", type=int, default=3, help="how many of them always fail")
    parser.add_argument("--share", type=float, default=0.06, help="of the jobs that run, the share that is ended")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "many_models")
    parser.add_argument("--plan", action="store_true", help="plan the study, and run nothing")
    parser.add_argument("--processes", action="store_true", help="start each job as a process of its own")
    parser.add_argument("snakemake", nargs="*", help="after --: further arguments of Snakemake")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and the daemons with it
    folder = arguments.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    project = checkout(folder / "project")
    write_text(folder / "text")
    write_model(folder / "tokenizer", folder / "text")
    models, failing = write_models(project.folder / "models", folder / "tokenizer", arguments.models, arguments.failing)
    project.write_config(study(models))
    if arguments.plan:
        plan = cost_of([*project.command("--dry-run"), "--quiet", "rules"], project.folder)
        print(f"planned in {plan.seconds:.1f} s, {plan.processor_seconds:.1f} s of processor, {plan.megabytes:.0f} MB")
        return
    faults, wall, processor, said = run(folder, project, arguments)
    results = project.folder / "results" / STUDY
    verdicts, wrong = lost(results, models, failing)
    attempts = Counter(comment for _, comment in faults.jobs.values())
    states = Counter(state for state, _ in faults.jobs.values())
    rows = {
        "models": f"{len(models)}, of which {len(failing)} always fail",
        "interventions of each": len(INTERVENTIONS),
        "jobs of Slurm": len(faults.jobs),
        "ended on purpose": ", ".join(f"{count} {way}" for way, count in Counter(faults.ended.values()).items()) or "none",
        "jobs that were retried": sum(count > 1 for count in attempts.values()),
        "most attempts of one": max(attempts.values(), default=0),
        "states in the end": ", ".join(f"{count} {state.lower()}" for state, count in states.most_common()),
        "rows that each failing model costs": ", ".join(f"{model}: {sum(verdicts[model].values())}" for model in failing),
        "page": ", ".join(f"{page.stat().st_size / 2**20:.1f} MB" for page in results.glob("index.html")) or "none",
        "figures": len(list((results / "figures").glob("*.svg"))),
        "wall": f"{wall / 60:.1f} min",
        "processor": f"{processor / 60:.1f} min",
    }  # fmt: skip
    print("\n".join(f"| {name} | {value} |" for name, value in rows.items()))
    print(said[-1500:])
    (folder / "table.json").write_text(json.dumps(rows | {"wrong": wrong}, indent=1))
    sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
