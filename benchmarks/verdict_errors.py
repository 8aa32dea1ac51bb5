"""How often the verdicts of the primary tests are wrong: on data generated under each claim's null, under the claim, and under its opposite.

    python benchmarks/verdict_errors.py [--draws 1000] [C1 C2 …]

Every draw goes through the statistic's own functions and the claim's own test, see tests/ledger_simulations.py. Under a null at most 5 % of
the verdicts may be "reproduced" and at most 5 % "contradicted", unless the null is on the other side of the test's threshold; under the claim and its opposite the table shows the power, at effects that
the simulations choose. The tests run the same with fewer draws.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from measured import Measured, add_json_option, write_json

from ledger_simulations import SIMULATIONS
from sinkorigin.claims.tests import CONTRADICTED, REPRODUCED

MOST = 0.05  # share of wrong verdicts under a null


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", nargs="*", metavar="C1", help="claims; all of them without")
    parser.add_argument("--draws", type=int, default=1000, help="generated studies under each null; a tenth elsewhere")
    parser.add_argument("--sequences", type=int, nargs="+", default=[24, 64])
    add_json_option(parser)
    arguments = parser.parse_args()
    measured = []
    print(
        "| claim and simulation | N | null: reproduced | null: contradicted | claim: reproduced | opposite: contradicted | seconds |"
    )
    print("|---|---|---|---|---|---|---|")
    for simulation in SIMULATIONS:
        if arguments.codes and simulation.code not in arguments.codes:
            continue
        for sequences in arguments.sequences:
            start, shares = time.perf_counter(), {}
            for truth in ("null", "claim", "opposite"):
                draws = arguments.draws if truth == "null" else max(1, arguments.draws // 10)
                found = simulation.verdicts(truth, sequences, draws)
                shares |= {(truth, verdict): found.count(verdict) / draws for verdict in (REPRODUCED, CONTRADICTED)}
            columns = (("null", REPRODUCED), ("null", CONTRADICTED), ("claim", REPRODUCED), ("opposite", CONTRADICTED))
            cells = [f"{shares[column]:.1%}" for column in columns]
            measured += [
                Measured(
                    name=f"verdicts {verdict!r} under the null of {simulation}, N = {sequences}, beside all",
                    numerator=shares["null", verdict] * arguments.draws, denominator=arguments.draws, ratio=shares["null", verdict],
                    unit="verdicts", bar=None if verdict == CONTRADICTED and not simulation.refutable else MOST,
                )
                for verdict in (REPRODUCED, CONTRADICTED)
            ]  # fmt: skip
            if not simulation.refutable:
                cells[1] = "rightly"
            numbers = " | ".join(cells)
            print(f"| {simulation} | {sequences} | {numbers} | {time.perf_counter() - start:.0f} |", flush=True)
    write_json(arguments.json, measured)


if __name__ == "__main__":
    main()
