"""The page in a browser: it needs no network, nothing goes wrong in it, and it can be read on a phone, in the dark and printed."""

import os
from pathlib import Path

import pytest

from chromium import Chromium, needs_chromium
from made_up_study import CHARTS, made_up
from sinkorigin.page.assembly import page_of_study

pytestmark = needs_chromium
PAINTED = """new Promise((done) => new PerformanceObserver((entries) => {
  for (const entry of entries.getEntriesByName("first-contentful-paint")) done(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""
AXE = os.environ.get("AXE")  # path of axe.min.js, from `npm pack axe-core`


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """The page of two models with long labels, where the study has it."""
    folder = tmp_path_factory.mktemp("browser")
    study = made_up(folder, {"m": "M, dequantised from Q4_1", "n": f"N {'long' * 40}"})
    path = study.folder / "index.html"
    path.write_text(page_of_study(study.files, study.about, study.record), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.fixture(params=[390, 1400])
def page(browser, file, request):
    """The page at the width of a phone, and of a screen, with all its charts and figures drawn."""
    browser.open(file, width=request.param)
    browser.evaluate(
        "Promise.all([drawAllCharts(), ...[...document.images].map((one) => (one.loading = 'eager', one.decode()))])"
    )
    return browser


def test_nothing_leaves_the_file_and_nothing_goes_wrong(page, file):
    assert page.requests() == [file.as_uri()]
    assert page.errors() == []


def test_it_is_as_wide_as_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


def test_every_chart_and_figure_is_drawn(page):
    assert page.evaluate("[...document.images].every((one) => one.naturalWidth > 0)")
    assert page.evaluate("document.images.length") == 1
    assert page.evaluate("document.querySelectorAll('.chart[data-drawn] svg.marks').length") == len(CHARTS)
    described = "document.querySelectorAll('.chart [role=graphics-document][aria-label]').length"
    assert page.evaluate(described) == len(CHARTS)


def test_every_link_within_the_page_leads_somewhere(page):
    links = (
        "[...document.querySelectorAll('main a[href^=\"#\"], .skip')].filter((one) => !one.closest('.vega-actions'))"
    )
    lost = f"{links}.filter((one) => !document.getElementById(one.hash.slice(1))).length"
    assert page.evaluate(lost) == 0
    opened = "(location.hash = '#table-query_alignment', new Promise((done) => setTimeout(done, 50)))"
    page.evaluate(opened)
    assert page.evaluate("document.getElementById('table-query_alignment').open"), "a link opens what it leads to"


def test_a_table_can_be_saved_as_csv(page):
    text = page.evaluate("downloadTable('query_alignment')")
    assert text.startswith("model,prompts,layer,head,") and text.count("\n") == 13


def test_the_switch_shows_one_model_and_the_button_turns_the_lights_off(page):
    page.evaluate("(model.value = 'n', model.dispatchEvent(new Event('change')))")
    assert page.evaluate("[...document.querySelectorAll('[data-model=m]')].every((one) => one.hidden)")
    shown = "[...document.querySelectorAll('[data-model=m]')].filter((one) => one.checkVisibility()).length"
    assert page.evaluate(shown) == 0, "also where rows are cards"
    assert page.evaluate("[...document.querySelectorAll('[data-model=n]')].every((one) => !one.hidden)")
    assert page.evaluate(
        "[...document.querySelectorAll('select[name=shown]')].every((one) => one.selectedOptions[0].text.startsWith('N '))"
    )
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.evaluate("theme.click()")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert page.evaluate("theme.getAttribute('aria-pressed')") == "true"
    page.evaluate("(model.value = '', model.dispatchEvent(new Event('change')))")
    assert page.evaluate("document.querySelectorAll('[data-model][hidden]').length") == 0


def test_it_is_painted_within_a_second(browser, file):
    """The fastest of three, because other work on the machine only adds to it."""
    times = []
    for _ in range(3):
        browser.open(file, width=1400)
        times.append(browser.evaluate(PAINTED))
    assert min(times) < 1000, times


def test_it_is_dark_where_the_reader_wants_it_so(browser, file):
    browser.open(file, width=1400, dark=True)
    assert browser.evaluate("theme.getAttribute('aria-pressed')") == "true"


@pytest.mark.skipif(AXE is None, reason="AXE names no axe.min.js: npm pack axe-core, unpack it, AXE=package/axe.min.js")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_has_no_serious_finding(page, file, dark):
    width = page.evaluate("window.innerWidth")
    page.open(file, width=width, dark=dark)
    page.evaluate("drawAllCharts()")
    page.evaluate(Path(AXE).read_text(encoding="utf-8") + "; 0")
    found = page.evaluate(
        "axe.run().then((all) => all.violations.map((one) => [one.impact, one.id, one.nodes[0].html]))"
    )
    assert [one for one in found if one[0] in ("serious", "critical")] == []
