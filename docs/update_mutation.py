"""Write docs/mutation.md from benchmarks/mutation.json: the mutation score, and the mutants that survived. ``make mutation`` does both."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src")]

from sinkorigin.statistics.binomial import exact_interval

RESULT = ROOT / "benchmarks" / "mutation.json"
REASONS = ROOT / "benchmarks" / "mutation_reasons.yaml"
KILLED = ("killed", "out of time")

_HEAD = """# Which changes of the code the tests notice

A *mutant* is a copy of the code with one small change: `<` for `<=`, `+` for `-`, an argument left out, a constant plus one, a word
written otherwise. The tests *kill* it if one of them fails, or takes far longer than before. The *mutation score* is the share of the
mutants that the tests kill. Coverage says which lines tests run; this score says whether anything checks what the lines do.

`make mutation` measures the score of `src/sinkorigin/statistics/` and `src/sinkorigin/claims/` with the unit tests and
[mutmut](https://mutmut.readthedocs.io), and writes this page. Because the mutants are many, it tries a random sample of them, drawn anew by
a seed and stratified by module: `make mutation SAMPLE=1000 SEED=3`, or `SAMPLE=all`. Where it was interrupted, the same command goes on.

What counts: mutmut changes what is inside of functions, without docstrings and annotations; not the schemas and the declarations of claims
at the top of a module, nor functions with a decorator. A mutant whose result no test can tell from the original's is a survivor like any
other, and is not taken out of the count. Only unit tests are run, and on each mutant only those of its function which together take
less than three seconds: a mutant that only a longer test would notice counts as survived.
"""


def score(result: Mapping) -> tuple[float, float, float]:
    """Mutation score, and the ends of its 95 % interval (Clopper and Pearson); all one number where all mutants were tried.

    Of each module as many mutants are drawn as its share of all, so that the score of the sample is that of all modules together. The
    interval is that of a sample that is not stratified, which is a little wider than need be.
    """
    modules = result["modules"].values()
    tried, killed = sum(map(_tried, modules)), sum(map(_killed, modules))
    value = killed / tried
    of_all = tried == sum(module["mutants"] for module in modules)
    return (value, value, value) if of_all else (value, *exact_interval(killed, tried))


def _tried(module: Mapping) -> int:
    return sum(count for name, count in module.items() if name != "mutants")


def _killed(module: Mapping) -> int:
    return sum(module.get(name, 0) for name in KILLED)


def _code(text: str) -> str:
    """Lines of code in a cell of a table."""
    return "<br>".join(f"`` {line} ``" for line in text.replace("|", "\\|").splitlines())


def page(result: Mapping, reasons: Mapping[str, Mapping[str, str]]) -> str:
    """The page, in Markdown.

    Args:
        result: content of ``RESULT``.
        reasons: of ``REASONS``: module → change → why no test can notice it.
    """
    modules, survivors = result["modules"], result["survivors"]
    total, tried = (sum(map(count, modules.values())) for count in (lambda module: module["mutants"], _tried))
    value, low, high = score(result)
    of_all = tried == total
    drawn = "all" if of_all else f"a random {tried} (seed {result['seed']})"
    ends = "" if of_all else f" (95 % interval {100 * low:.1f} … {100 * high:.1f} %)"
    equivalent = [one for one in survivors if one["change"] in reasons.get(one["module"], {})]
    timed_out = sum(module.get("out of time", 0) for module in modules.values())
    lines = [
        _HEAD,
        "## Score\n",
        f"**{100 * value:.1f} %**{ends}: of {total} mutants {drawn} were tried, with mutmut {result['mutmut']}. The tests killed "
        f"{sum(map(_killed, modules.values()))}, {timed_out} of them by taking too long; {len(survivors)} survived. Of these "
        f"{len(equivalent)} are equivalent to the original, for the reason that is given below.\n",
        "| module | mutants | tried | killed |",
        "|---|--:|--:|--:|",
        *(
            f"| `{name.removeprefix('sinkorigin.')}` | {module['mutants']} | {_tried(module)} | {_killed(module)} |"
            for name, module in modules.items()
        ),
        "\n## Survivors\n",
        "What each mutant changes: `-` before, `+` after. *Equivalent*: no test can notice it, and why.\n",
        "| function | change | |",
        "|---|---|---|",
    ]
    for one in survivors:
        where = f"`{one['module'].removeprefix('sinkorigin.')}`<br>`{one['function']}`"
        reason = reasons.get(one["module"], {}).get(one["change"])
        said = f"equivalent: {reason}" if reason else "" if one["verdict"] == "survived" else one["verdict"]
        lines.append(f"| {where} | {_code(one['change'])} | {said} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    reasons = yaml.safe_load(REASONS.read_text()) or {}
    (ROOT / "docs" / "mutation.md").write_text(page(json.loads(RESULT.read_text()), reasons))


if __name__ == "__main__":
    main()
