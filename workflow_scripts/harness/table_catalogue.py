"""Every table by its place below ``results/{study}`` (``support`` is below ``results``); and docs/tables.md, with every column."""

import re
from collections.abc import Iterator
from importlib import import_module

import pyarrow as pa

from sinkorigin.statistics.registry import STATISTICS

_BY_MODEL = "statistics/{model}/{prompts}/"
# Output of a statistic → its place, where that is another one.
_ELSEWHERE = {
    "anatomy": "statistics/{model}/anatomy",
    "pretraining": "statistics/pretraining",
    "by_seed": "statistics/pretraining_by_seed",
    "comparison": "statistics/pretraining_comparison",
    "pretraining_timing": "statistics/pretraining_timing",
    "ladder": "statistics/ladder",
    "ladder_slope": "statistics/ladder_slope",
    "learning_rates": "statistics/learning_rates",
}


def _of(module: str, name: str = "SCHEMA") -> pa.Schema:
    """Schema of a module: imported here, because some need PyTorch."""
    return getattr(import_module(module), name)


def tables() -> dict[str, pa.Schema]:
    """Place of each table → its schema. Raw vectors stand for those of any width; ``…`` is the folder of an edit, or the baseline's."""
    activations, attention = "activations/{model}/{prompts}", "attention/{model}/{prompts}"
    edited, documents = "interventions/{model}/{prompts}", _of("sinkorigin.corpora.fetching", "DOCUMENTS_SCHEMA")
    prompts = _of("sinkorigin.corpora.prompts")
    data, training = "pretraining/data/{data}", "pretraining/{run}/seed={seed}"
    vectors = import_module("sinkorigin.activations.writers").activation_schema(1).remove_metadata()
    summaries = import_module("sinkorigin.activations.pipeline").TABLES
    found = {
        "claims": _of("sinkorigin.claims.judging", "LEDGER_SCHEMA"),
        "robustness": _of("sinkorigin.claims.judging", "ROBUSTNESS_SCHEMA"),
        "accounts": _of("sinkorigin.claims.accounts"),
        "checks": _of("sinkorigin.claims.checks"),
        "claims_over_models": _of("sinkorigin.claims.over_models"),
        "plan": _of("harness.plan"),
        "support": _of("sinkorigin.support.page"),
        "corpus/documents": documents,
        "prompts/{model}/{prompts}": prompts,
        f"{data}/prompts/{{start}}/{{prompts}}": prompts,
        f"{activations}/{{site}}/layer={{layer}}/part-0": vectors,
        **{f"{attention if name == 'scores' else activations}/{name}": schema for name, schema in summaries.items()},
        "weights/{model}/neurons": _of("sinkorigin.statistics.weights", "NEURONS_SCHEMA"),
        "weights/{model}/output_projection": _of("sinkorigin.statistics.weights", "OUTPUT_PROJECTION_SCHEMA"),
        **{
            f"{edited}/…/{name}": one for name, one in import_module("sinkorigin.interventions.schemas").SCHEMAS.items()
        },
        f"{edited}/mechanism": _of("sinkorigin.statistics.mediation", "PASSES_SCHEMA"),
        f"{edited}/attention_map": _of("sinkorigin.interventions.attention_map"),
        f"{data}/documents": documents,
        f"{training}/history": _of("sinkorigin.pretraining.loop", "HISTORY"),
        f"{training}/timing": _of("sinkorigin.pretraining.loop", "TIMING"),
        "learning_rates/{run}/learning_rate={learning_rate}/seed={seed}/history": _of(
            "sinkorigin.statistics.learning_rates", "HISTORY_SCHEMA"
        ),
        "statistics/training/{run}/seed={seed}": _of("sinkorigin.statistics.training"),
        f"{_BY_MODEL}resolved_interventions": _of("sinkorigin.interventions.resolution"),
    }
    for statistic in STATISTICS:
        for name, schema in import_module(f"sinkorigin.statistics.{statistic}").TABLES.items():
            found[_ELSEWHERE.get(name, f"{_BY_MODEL}{name}")] = schema
    return {f"{place}.parquet": schema for place, schema in found.items()}


_HEAD = """# Every table and column

There are {tables} kinds of tables with {columns} columns. [results/README.md](../results/README.md) is their map; this page is made from
their schemas by `make tables`. Tables are Parquet: polars (`polars.read_parquet(path)`), pandas, DuckDB and R read them, and each file
carries the descriptions of its columns.

Places are below `results/{{study}}/`, that of `support.parquet` is below `results/`. Layers and positions are counted from 0. A quantity
`x` may have the ends of its 95 % interval beside it (`x_low`, `x_high`), and those of the interval that holds for all comparisons of a
model and prompt set together (`x_low_all`, `x_high_all`). `null` is not defined. The codes V1, S1, … are those of [paper.md](paper.md).

The tables of the first look (`first_look/{{model}}/{{prompts}}/`) have the columns of the tables of the same names.
"""


def described(results_map: str) -> dict[str, tuple[str, str]]:
    """Place of a table → section of results/README.md that has it, and its row there: what it holds."""
    found: dict[str, tuple[str, str]] = {}
    for section in re.split(r"^## ", results_map, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        [folder] = re.findall(r"^`{study}/(\S*)`", heading) or [""]
        by_row = "| one row for each |" in text
        for cells, what, *_ in re.findall(r"^\| (`[^|]+) \| (.+?) (?=\|(?: |$))", text, re.MULTILINE):
            first = ""
            for name in re.findall(r"`([^`]+\.parquet)`", cells):
                place = name if "/" in name else f"{first.rpartition('/')[0]}/{name}".lstrip("/")
                first = first or place
                found[folder + place] = (heading, f"one row for each {what}" if by_row else what)
    return found


def _heading(place: str) -> str:
    """A name that no other table has: its own, and before it the folders without wildcards unless it is a statistic."""
    parts = [
        part for part in place.removesuffix(".parquet").split("/") if "{" not in part and part not in ("…", "part-0")
    ]
    return parts[-1] if parts[0] == "statistics" else "/".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(place: str, schema: pa.Schema, what: str) -> Iterator[str]:
    what = what.replace("](../docs/", "](").rstrip(".")
    yield f"### {_heading(place)}\n\n`{place}`\n\n{what[0].upper()}{what[1:]}.\n"
    yield "| column | type | what it is |\n|---|---|---|"
    for field in schema:
        yield f"| `{field.name}` | {_type(field.type)} | {_cell(field.metadata[b'description'].decode())} |"


def _type(type_: pa.DataType) -> str:
    """Arrow's name of a type; of a vector, whose length depends on the model, that of its numbers."""
    if pa.types.is_fixed_size_list(type_):
        return f"vector of {type_.value_type}"
    if pa.types.is_list(type_):
        return f"list of {_type(type_.value_type)}"
    return str(type_)


def page(results_map: str) -> str:
    """The page, in Markdown, from the schemas and from what results/README.md says of each table."""
    known, rows = tables(), described(results_map)
    lines = [_HEAD.format(tables=len(known), columns=sum(map(len, known.values())))]
    section = ""
    for place, (heading, what) in rows.items():
        if place in known:
            if heading != section:
                lines += [f"## {heading.replace('`', '')}\n"]
                section = heading
            lines += [*_table(place, known[place], what), ""]
    return "\n".join(lines)
