"""The page of a study is whole whatever the study lacks, says what that is, and shows labels as text."""

import gzip
import io
import json
import re
from base64 import b64decode
from html.parser import HTMLParser

import polars as pl
import pytest

from made_up_study import CHARTS, SVG, made_up
from sinkorigin.claims.judging import LEDGER_SCHEMA
from sinkorigin.page.assembly import page_of_study
from sinkorigin.page.charts import attention_map, dose_response, sink_map, sink_under_edit
from sinkorigin.page.embedding import compressed_csv, data_uri, size_of
from sinkorigin.page.facts import RunRecord
from sinkorigin.page.page_tables import PageTables
from sinkorigin.page.story import CHAPTERS, chapters_of
from sinkorigin.statistics import keys

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta"}


class Outline(HTMLParser):
    """Ids, links within the page, headings and the text of a page; it fails where elements are not closed in order."""

    def __init__(self, page: str):
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.ids += [facts["id"]] if "id" in facts else []
        self.links += [facts["href"]] if tag == "a" else []
        self.headings += [int(tag[1])] if re.fullmatch(r"h\d", tag) else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def page_of(study) -> str:
    return page_of_study(study.files, study.about, study.record)


def outline_of(study, page: str | None = None) -> Outline:
    """Outline of a study's page, which is whole."""
    outline = Outline(page_of(study) if page is None else page)
    assert len(set(outline.ids)) == len(outline.ids), "every id is there once"
    inside = {link[1:] for link in outline.links if link.startswith("#")}
    assert inside <= set(outline.ids), inside - set(outline.ids)
    assert outline.headings[0] == 1 and outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False)), (
        outline.headings
    )
    for link in outline.links:
        if not link.startswith("#"):
            assert (study.folder / link).is_file(), link
    return outline


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(study):
    return page_of(study)


@pytest.fixture(scope="module")
def outline(study, page):
    return outline_of(study, page)


def test_the_first_screen_says_what_was_studied_found_and_carried(outline):
    text = outline.text
    assert "M, dequantised from Q4_1" in text and "10 × 8 tokens" in text and "1 small model trained here" in text
    found = text[text.index("What was found") : text.index("The evidence")]
    assert "position 0 is a sink." in found and "Contradicted: key is that of one dim (cosine 0.2)." in found
    assert "position 0 is a sink (9 of 10 sequences with drawn tokens)" in found
    assert (
        "Contradicted: key is that of one dim (cosine 0.2 with what its largest dim alone gives; test: > 0.5)." in found
    )
    assert "alone it makes 97 % [90, 102]" in text and "a sink in 7 of 10 sequences" in text


def test_verdicts_are_told_by_words_and_symbol_and_not_by_colour_alone(outline):
    evidence = outline.text[outline.text.index("Claims by model") :]
    for verdict in ("✓ reproduced", "✗ contradicted", "? undecided", "– not applicable"):
        assert verdict in evidence


def test_every_claim_has_its_test_interval_robustness_reason_and_links(outline):
    text = outline.text
    part = text[text.index("C1 variance highest at position 0 1.5") :]
    for words in (
        "The paper reports: as here.",
        "1.5 [1.2, 1.9]",
        "p < 0.001 after Holm",
        "holds in 2 of 2",
        "threshold 0.6: 1.5",
    ):
        assert words in part, words
    assert "Test in src/sinkorigin/claims/primary/c01_variance_at_first.py , judged by" in part.replace(".py,", ".py ,")
    assert "the reason" in part and "Made by the rule compute_keys in rules/statistics.smk" in part


def test_figures_are_embedded_with_a_text_and_a_sentence(page, outline):
    [(uri, alt)] = re.findall(r'<img src="([^"]+)" alt="([^"]+)" width="96" height="48" loading="lazy"', page)
    assert alt == "Variance over sequences of the value aggregation"
    assert uri.startswith("data:image/svg+xml;charset=utf-8,") and "%23" in uri
    assert "Here: 1.5 times as much variance at position 0 as at any other position." in outline.text
    assert "Look for: a fall." in outline.text


def test_nothing_is_fetched(page):
    markup = re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.S)
    outside = [
        tag
        for tag in re.findall(r"<(?:link|script|img|iframe)\b[^>]*", markup)
        if re.search(r'(?:src|href)="(?!data:)', tag)
    ]
    assert outside == [] and "default-src 'none'" in markup and "connect-src" not in markup


def test_tables_are_there_as_csv_with_their_columns_described(study, page, outline):
    [text] = re.findall(r'id="csv-query_alignment">([^<]+)<', page)
    table = pl.read_csv(io.BytesIO(gzip.decompress(b64decode(text))))
    expected = pl.read_parquet(study.files["query_alignment"][0])
    assert (
        table["mass"].to_list() == pytest.approx(expected["mass"].to_list(), rel=1e-5)
        and table.columns == expected.columns
    )
    assert "query_alignment : 6 rows" in outline.text.replace("query_alignment:", "query_alignment :")
    description = keys.QUERY_ALIGNMENT_SCHEMA.field("positive_ratio").metadata[b"description"].decode()
    assert " ".join(description.split()) in outline.text


def test_the_same_study_has_the_same_page_but_for_what_its_logs_say(study, page):
    assert page == page_of(study)
    record = RunRecord(
        3, 400.0, 2048.0, 0.0, "2026-01-01 10:00 UTC", "2026-01-01 10:09 UTC", ["Linux x86_64, 2 × CPU, 8 GB"]
    )
    other = page_of_study(study.files, study.about, record)
    assert "2026-01-01 10:00 to 10:09 UTC" in other and "3 jobs, 7 minutes" in other and "not recorded" in page
    block = r'<dl id="run">.*?</dl>'
    assert other != page and re.sub(block, "", other, flags=re.S) == re.sub(block, "", page, flags=re.S)


def test_a_label_that_is_html_or_very_long_is_text(tmp_path):
    evil = "<script>alert(1)</script>\"><img src=x onerror=alert(2)> & 'quoted'"
    study = made_up(tmp_path, {"m": evil, "n": "long " * 200 + "x" * 300})
    page = page_of(study)
    assert "<script>alert" not in page and "<img src=x" not in page
    assert " ".join(evil.split()) in outline_of(study, page).text
    for spec in re.findall(r'<script type="application/json" id="spec-\w+">(.*?)</script>', page, flags=re.S):
        json.loads(spec)


def test_a_study_of_one_model_has_no_switch_and_one_of_two_has(page, tmp_path):
    assert '<select id="model"' not in page
    two = made_up(tmp_path, {"m": "M", "n": "N"})
    both = page_of(two)
    assert '<option value="n" data-with="" data-label="N">N</option>' in both and outline_of(two, both)


def test_a_study_without_interventions_says_so(tmp_path):
    study = made_up(tmp_path, edits=False)
    text = outline_of(study).text
    assert "No edit was followed through the chain in this study." in text and "mask makes a sink" not in text
    assert "Which heads attend to position 0" in text and "How the sink grows" not in text


def test_a_study_without_pretraining_says_so(tmp_path):
    text = outline_of(made_up(tmp_path, runs=False)).text
    assert "no model was trained here" in text and "head-wise RMSNorm" not in text.replace("Head-wise", "")


def test_a_study_of_pretraining_alone_has_a_page(tmp_path):
    text = outline_of(made_up(tmp_path, {})).text
    assert "none fetched" in text and "head-wise RMSNorm ends lower" in text


def test_what_failed_jobs_left_out_stands_first(tmp_path):
    study = made_up(tmp_path)
    study.about["missing"] = [
        {"model": "m", "prompts": "text", "what": "sinks", "sentence": "no <space>; free some", "log": "a.log"}
    ]
    study.about["undrawn"] = [{"figure": name, "sentence": "killed", "log": "b.log"} for name in ("chain", "anatomy")]
    text = outline_of(study).text
    begin = text[: text.index("What was found")]
    assert "This is not the whole study" in begin and "m on text: sinks no <space>; free some (log: a.log )" in begin
    assert "figures chain, anatomy killed (log: b.log )" in begin


def test_a_study_whose_claims_could_not_be_judged_has_a_page(tmp_path):
    study = made_up(tmp_path)
    for name in ("claims", "robustness", "checks", "accounts"):
        study.files[name] = []
    study.about["missing"] = [
        {"model": None, "prompts": None, "what": "the claims", "sentence": "killed", "log": "j.log"}
    ]
    text = outline_of(study).text
    assert "the claims killed" in text and "No claim was judged: the jobs that it needs failed" in text
    assert "plot_variance_by_position" in text, "figures are shown all the same"


def test_tables_of_another_version_are_told(tmp_path):
    study = made_up(tmp_path)
    path = study.files["claims"][0]
    pl.read_parquet(path).drop("reading").write_parquet(path)
    study.record = RunRecord(jobs=9, other_code={"compute_sinks": 4})
    text = outline_of(study).text
    begin = text[: text.index("What was found")]
    assert "Made from tables of another version" in begin and "claims lacks what this version writes: reading" in begin
    assert "4 jobs ran other code than this version has" in begin and "compute_sinks (4)" in begin
    pl.read_parquet(path).drop("threshold").write_parquet(path)
    assert "claims lacks what this version writes: reading, threshold" in outline_of(study).text.replace(
        "threshold, reading", "reading, threshold"
    )


def test_a_figure_in_no_format_of_the_web_is_linked(tmp_path):
    study = made_up(tmp_path)
    pdf = study.folder / "figures" / "variance_by_position.pdf"
    pdf.write_bytes(b"%PDF")
    study.files["figures"] = [str(pdf)]
    assert "in no format that a page can show" in outline_of(study).text


def test_charts_are_valid_and_hold_no_more_than_they_draw(study):
    tables = PageTables(study.files, {("m", "random_tokens"): study.folder / "interventions/m/random_tokens"})
    for module in (sink_map, attention_map, sink_under_edit, dose_response):
        spec = module.draw(tables, {"m": "M"}).to_dict(validate=True)
        assert spec["description"] == module.DESCRIPTION and module.say(tables, {"m": "M"}), module
        assert len(json.dumps(spec)) < 20_000, module
        assert module.draw(PageTables({}), {"m": "M"}) is None and module.say(PageTables({}), {}) == ""
    assert {name for name, _ in CHARTS} == {
        module.__name__.rpartition(".")[2] for module in (sink_map, attention_map, sink_under_edit, dose_response)
    }


def test_an_svg_in_a_data_uri_is_the_svg(tmp_path):
    from urllib.parse import unquote

    file = tmp_path / "a.svg"
    file.write_text(SVG)
    assert re.sub(r">\s+<", "><", SVG) == unquote(data_uri(file).partition(",")[2])
    assert size_of(file) == (96, 48)


def test_a_compressed_table_has_the_same_bytes_whenever_it_is_made():
    table = pl.DataFrame({"layers": [[0, 1], []], "x": [0.1, None]})
    assert compressed_csv(table) == compressed_csv(table)
    assert gzip.decompress(b64decode(compressed_csv(table))).decode() == 'layers,x\n0 1,0.1\n"",\n'


def test_every_claim_and_figure_has_its_place_in_the_story_and_a_new_one_comes_last():
    from harness.figures import FIGURES
    from harness.page import CHARTS as REGISTERED
    from sinkorigin.claims.ledger import PRIMARY, TRAININGS

    parts = [part for chapter in CHAPTERS for part in chapter.parts]
    told = [code for part in parts for code in part.claims]
    assert told == [claim.code for claim in (*PRIMARY, *TRAININGS)]
    shown = [name for part in parts for name in part.figures]
    elsewhere = {
        "evidence",
        "first_look",
        "learning_rates",
    }  # of all claims, which comes last; and what `all` does not make
    assert len(set(shown)) == len(shown) and set(shown) == {figure.name for figure in FIGURES} - elsewhere
    assert [name for part in parts for name in part.charts] == [chart.name for chart in REGISTERED]
    assert [(chart.name, chart.table) for chart in REGISTERED] == CHARTS
    *_, last = chapters_of(["C0", "C99"], ["anatomy", "new"], [])
    assert last.name == "more" and [part.claims + part.figures for part in last.parts] == [("C99",), ("new",)]


def test_columns_that_the_page_reads_of_the_ledger_are_in_its_schema():
    assert {"reading", "threshold", "p_adjusted"} <= set(LEDGER_SCHEMA.names)
