"""What a first look costs: wall and processor time of ``make first-look``, where the model is there already.

    python benchmarks/first_look.py [config.yaml …]

It runs for a study of another name that has nothing yet, in whole rounds, and removes it afterwards. What a study fetches apart from the
model is fetched, where a first look needs it. The bar is the three minutes that README.md tells; it holds for the default study.
"""

import argparse
import os
import shutil
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "workflow_scripts")]

from measured import Measured, add_json_option, compared, cost_of, write_json

STUDY = "timed_first_look"
BAR = 3 * 60  # s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configfiles", nargs="*", help="of another study, as after --configfile")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=1)
    add_json_option(parser)
    arguments = parser.parse_args()
    study = ROOT / "results" / STUDY
    command = [sys.executable, str(ROOT / "workflow_scripts" / "reproduce.py"), "--cores", str(arguments.cores)]
    others = ["--configfile", *arguments.configfiles] if arguments.configfiles else []
    command += ["first_look", *others, "--config", f"study={STUDY}"]
    costs = []
    for _ in range(arguments.rounds):
        shutil.rmtree(study, ignore_errors=True)  # of a run that was killed
        try:
            costs.append(cost_of(command, ROOT))
        finally:
            shutil.rmtree(study, ignore_errors=True)
        print(f"first look: {costs[-1].seconds:.0f} s, {costs[-1].processor_seconds:.0f} s of processor", flush=True)
    name = f"first look on {arguments.cores} cores, model fetched"
    seconds = [cost.seconds for cost in costs]
    processor = statistics.median(cost.processor_seconds for cost in costs)
    found = [Measured(name=f"{name}, processor time", numerator=processor, rounds=len(costs))]
    if not arguments.configfiles:
        found.append(compared(f"{name}, beside {BAR / 60:g} minutes", seconds, [float(BAR)] * len(seconds), bar=1.0))
        print(f"{found[-1].ratio:.2f} of {BAR} s")
    write_json(arguments.json, found)


if __name__ == "__main__":
    main()
