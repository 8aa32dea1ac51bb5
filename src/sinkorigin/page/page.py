"""The page of a study as one HTML file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sinkorigin.claims.comparison import COLUMNS, PAPER_ROWS, note, paper_cells, prompt_sets, rows_of
from sinkorigin.claims.findings import findings
from sinkorigin.claims.tests import CONTRADICTED, NOT_APPLICABLE, REPRODUCED, UNDECIDED
from sinkorigin.page import contents
from sinkorigin.page.embedding import compressed_csv, data_uri, size_of
from sinkorigin.page.facts import FigureFile, StudyFacts, TableMaker
from sinkorigin.page.page_tables import PageTables
from sinkorigin.page.story import chapters_of
from sinkorigin.tables import place_of

HERE = Path(__file__).parent
LARGEST_CSV = 400_000  # bytes of a compressed table that is embedded; larger ones are there as Parquet


@dataclass(frozen=True)
class ChartSpec:
    """A Vega-Lite chart.

    Attributes:
        name, title, description: of the chart; the description is read to who does not see it.
        spec: Vega-Lite as a dict.
        said: what it shows, with numbers.
        table: name of the table that has its data.
    """

    name: str
    title: str
    description: str
    spec: Mapping[str, Any]
    said: str
    table: str


@dataclass(frozen=True)
class Judgements:
    """Rows of the tables that the claims are judged into; see ``sinkorigin.claims.judging``."""

    ledger: Sequence[Mapping]
    robustness: Sequence[Mapping] = ()
    checks: Sequence[Mapping] = ()
    accounts: Sequence[Mapping] = ()


def render(
    facts: StudyFacts,
    judged: Judgements,
    tables: PageTables,
    *,
    figures: Sequence[FigureFile] = (),
    charts: Sequence[ChartSpec] = (),
    sentences: Mapping[str, str] | None = None,
    comparison: pa.Table | None = None,
) -> str:
    """The page.

    Args:
        facts, judged, tables: what it tells.
        figures, charts: in any order; the story has its own.
        sentences: figure → one sentence on what it shows here; those without get that of their claims.
        comparison: the comparison of the pretraining runs, where there are some.
    """
    labels = {model["name"]: model["label"] for model in facts.models}
    claims = contents.claim_texts(judged.ledger, judged.robustness)
    named_figures, named_charts = {one.name: one for one in figures}, {one.name: one for one in charts}
    chapters = chapters_of(claims, named_figures, named_charts)
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["words"] = lambda name: str(name or "").replace("_", " ")
    sources = _sources(tables, facts)
    shown = {name: _shown(one) for name, one in named_figures.items()}
    return environment.get_template("page.html.j2").render(
        facts=facts,
        findings=findings(judged.ledger),
        first_tokens=contents.first_token_sentences(judged.ledger),
        matrices=contents.matrices(judged.ledger),
        chains=contents.chains(tables, labels),
        claims=claims,
        chapters=chapters,
        figures=shown,
        charts=named_charts,
        said=_said(chapters, claims, sentences or {}),
        checks=contents.checks_of(judged.checks),
        accounts=contents.accounts_of(judged.accounts),
        failures=contents.failures_of(facts.missing, facts.undrawn),
        comparisons=_comparisons(comparison),
        comparison_columns=list(COLUMNS),
        sources=sources,
        by_table={source.name: source for source in sources},
        legend=[contents.Verdict(text) for text in (REPRODUCED, CONTRADICTED, UNDECIDED, NOT_APPLICABLE)],
        prompt_words=[prompts.name.replace("_", " ") for prompts in facts.prompts],
        switched=[model for model in facts.models if model["role"] == "pretrained"],
        style=_asset("page.css"),
        script=_asset("page.js"),
        vega=_vega() if charts else "",
        specs={chart.name: _json(chart.spec) for chart in charts},
    )


def _asset(name: str) -> str:
    return (HERE / "assets" / name).read_text(encoding="utf-8")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which nothing in it can end early."""
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _json(value: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


@dataclass(frozen=True)
class _Figure:
    """A figure as the page shows it."""

    name: str
    uri: str | None
    size: tuple[int, int] | None
    other: Sequence[str]
    alt: str
    caption: Sequence[str]


def _shown(figure: FigureFile) -> _Figure:
    alt, paragraphs = contents.caption_parts(figure.caption)
    uri = None if figure.path is None else data_uri(figure.path)
    size = None if figure.path is None else size_of(figure.path)
    return _Figure(figure.name, uri, size, figure.other, alt or figure.name, paragraphs)


def _said(
    chapters: Sequence[Any], claims: Mapping[str, contents.ClaimText], sentences: Mapping[str, str]
) -> dict[str, str]:
    """Figure → what it shows here: its own sentence, else those of the claims that it stands under."""
    found = dict(sentences)
    for chapter in chapters:
        for part in chapter.parts:
            told = " ".join(claims[code].said for code in part.claims)
            for name in part.figures:
                if not found.get(name):
                    found[name] = told
    return found


@dataclass(frozen=True)
class _Source:
    """A table behind the page: its files, columns, and what makes it."""

    name: str
    files: Sequence[tuple[str, str]]
    columns: Sequence[tuple[str, str]]
    csv: str | None
    rows: int
    maker: TableMaker | None


def _sources(tables: PageTables, facts: StudyFacts) -> list[_Source]:
    """Every table that the page tells of, by name."""
    found = []
    for name in sorted(tables.names()):
        whole = tables.whole(name)
        if whole is None:
            continue
        files = [(" · ".join(place) or "the whole study", place_of(path)) for place, path in tables.files(name).items()]
        csv = compressed_csv(whole)
        found.append(
            _Source(
                name,
                files,
                tables.columns(name),
                csv if len(csv) <= LARGEST_CSV else None,
                len(whole),
                facts.makers.get(name),
            )
        )
    return found


def _comparisons(table: pa.Table | None) -> list[dict[str, Any]]:
    """The comparison of the pretraining runs, one table a prompt set, with the paper's rows first."""
    if table is None:
        return []
    return [
        {
            "prompts": prompts,
            "note": note(table, prompts),
            "paper": [(name, paper_cells(cells)) for name, cells in PAPER_ROWS.items()],
            "runs": list(rows_of(table, prompts)),
        }
        for prompts in prompt_sets(table)
    ]
