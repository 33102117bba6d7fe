"""The report in a real browser, as a phone and as a desk sees it.

Skipped where there is no Chromium.
"""

import pytest
import torch

from alphadecay.inspect.html.write import write_report
from tests.unit.alphadecay.inspect.html.browser import browsing, find_browser
from tests.unit.alphadecay.inspect.html.made_run import (
    alpha,
    island,
    make_run,
    weight_names,
    write_checkpoint,
)

LAYERS = 4
TYPES = 7
BROWSER = find_browser()
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium or Chrome on the path (apt-get install chromium)"
)

TOO_WIDE = """[...document.querySelectorAll("main *, .main-svg")]
    .filter(e => !e.closest("pre, table") && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + "." + e.getAttribute("class"))"""
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll("main *")]
    .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
        && e.getClientRects().length)
    .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
EMPTY = """[...document.querySelectorAll(".chart")]
    .filter(e => !e.querySelector(".js-line, .js-fill, .hm image, .bars path")).map(e => e.id)"""
CELLS = '[...document.querySelectorAll("#map-alpha .heatmap-label")].map(e => e.textContent).sort()'
LINES = '[...document.querySelectorAll("#lines-alpha .scatterlayer .js-line")].length'
MOVE = """
    document.getElementById("refresh").value = {};
    document.getElementById("refresh").dispatchEvent(new Event("input"))"""
CHOOSE = """
    document.getElementById("type").value = {};
    document.getElementById("type").dispatchEvent(new Event("change"))"""
SCROLLED = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Charts with buttons, and what their buttons cover of the legend, the axes and their names.
BUTTONS = '[...document.querySelectorAll(".chart")].filter(e => e.querySelector(".modebar-btn"))'
COVERED = f"""{BUTTONS}.flatMap(chart => {{
    const bar = chart.querySelector(".modebar").getBoundingClientRect();
    const parts = ".legend, .plot, .xtick, .ytick, .annotation-text-g";
    return [...chart.querySelectorAll(parts)].filter(part => {{
        const box = part.getBoundingClientRect();
        return box.width && box.left < bar.right && box.right > bar.left
            && box.top < bar.bottom && box.bottom > bar.top;
    }}).map(part => chart.id + " " + part.getAttribute("class"));
}})"""
# The colours of the cards, of the charts' paper, and of the text in either.
CARDS = """[...new Set([...document.querySelectorAll(".card")]
    .map(e => getComputedStyle(e).backgroundColor))]"""
PAPERS = """[...new Set([...document.querySelectorAll(".chart .main-svg")]
    .map(e => e.style.background).filter(colour => colour && colour !== "none"))]"""
HEADINGS = """[...new Set([...document.querySelectorAll("h3, .chart .xtick text")]
    .map(e => e.tagName === "H3" ? getComputedStyle(e).color : e.style.fill))]"""
LIGHT = {"paper": "rgb(255, 255, 255)", "ink": "rgb(26, 26, 26)"}
NIGHT = {"paper": "rgb(28, 31, 36)", "ink": "rgb(232, 234, 237)"}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = make_run(
        tmp_path_factory.mktemp("report") / "run",
        layers=LAYERS,
        name="a run <b>with</b> a name",
        state="failed",
        reason="</script>",
    )
    generator = torch.Generator().manual_seed(0)
    write_checkpoint(
        folder, {name: torch.randn(64, 96, generator=generator) for name in weight_names(LAYERS)}
    )
    write_report(folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def page(written, tmp_path_factory):
    with browsing(str(BROWSER), tmp_path_factory.mktemp("profile")) as tab:
        tab.size(360, 740, phone=True)
        tab.open(written)
        yield tab


def test_every_chart_is_drawn_and_nothing_is_fetched(page, written):
    figures = island(written.read_text(), "figures")
    assert (
        page.evaluate("document.documentElement.dataset.drawn") == str(len(figures))
        and len(figures) == 10
    )
    assert page.evaluate(EMPTY) == []
    assert page.complaints == [] and page.requests == [written.as_uri()]


@pytest.mark.parametrize(("width", "phone"), [(360, True), (390, True), (1280, False)])
def test_it_fits_and_can_be_read(page, width, phone):
    page.size(width, 740, phone)
    page.becomes("innerWidth", width)
    page.becomes(TOO_WIDE, [])
    # exponents; all else has 11 and more
    assert page.evaluate(SCROLLED) == 0 and page.evaluate(SMALLEST_TEXT) >= 10
    columns = page.evaluate(
        'new Set([...document.querySelectorAll(".card")].map(e => '
        "Math.round(e.getBoundingClientRect().left))).size"
    )
    assert columns == (1 if phone else 2)


def test_the_slider_moves_the_maps(page):
    page.size(390, 740, phone=True)
    for refresh, step in ((0, 0), (1, 4), (3, 12)):
        page.evaluate(MOVE.format(refresh))
        page.becomes('document.getElementById("when").textContent', f"step {step}")
        page.becomes(CELLS, sorted(f"{alpha(step, place):.2f}" for place in range(LAYERS * TYPES)))


def test_play_goes_to_the_last_refresh(page):
    page.evaluate('document.getElementById("play").click()')
    assert page.evaluate('document.getElementById("play").textContent') == "Pause"
    page.becomes('document.getElementById("play").textContent', "Play")
    assert page.evaluate('document.getElementById("when").textContent') == "step 12"


def test_trajectories_of_one_type_have_a_line_a_layer(page):
    # Of all types: a median and the outline of a band for each.
    assert page.evaluate(LINES) == 2 * TYPES
    for choice, lines in ((0, LAYERS), (TYPES - 1, LAYERS), (-1, 2 * TYPES)):
        page.evaluate(CHOOSE.format(choice))
        page.becomes(LINES, lines)


def test_a_finger_scrolls_the_page_and_not_the_chart(page):
    assert page.evaluate(
        '[...document.querySelectorAll(".chart")].every(e => e.layout.dragmode === false && '
        "e.layout.xaxis.fixedrange)"
    )


@pytest.fixture(scope="module")
def desk(page, written, tmp_path_factory):
    """The page with a picture and a script put into it that it does not know, and a mouse."""
    spoilt = tmp_path_factory.mktemp("spoilt") / "report.html"
    spoilt.write_text(
        written.read_text().replace(
            "</h1>", '</h1><img src="http://127.0.0.1:9/x.png"><script>1</script>', 1
        )
    )
    page.complaints.clear()
    page.size(1280, 740, phone=False)
    page.open(spoilt)
    return page


def test_what_it_would_fetch_is_refused_and_told(desk):
    """That the lists of complaints and requests were empty says something."""
    assert sum("Content Security Policy" in complaint for complaint in desk.complaints) == 2


def test_no_button_sends_a_chart_anywhere(desk):
    titles = set(
        desk.evaluate(
            '[...document.querySelectorAll(".modebar-btn")].map(e => e.dataset.title ?? '
            "e.ariaLabel)"
        )
    )
    assert titles == {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}


@pytest.mark.parametrize("width", [400, 700, 1280])
def test_buttons_cover_neither_legend_nor_axes(page, written, width):
    page.size(width, 740, phone=False)
    page.open(written)
    charts = page.evaluate(f"{BUTTONS}.map(e => e.id)")
    assert width < 500 or {"loss", "lines-alpha", "esd-0", "parts"} <= set(charts)
    assert page.evaluate(COVERED) == []


def test_it_is_dark_where_the_system_is(page, written):
    page.size(1280, 740, phone=False)
    page.complaints.clear()
    try:
        page.prefer("dark")
        page.open(written)
        page.evaluate(MOVE.format(1))
        page.evaluate(CHOOSE.format(2))
        for scheme, expected in (("dark", NIGHT), ("light", LIGHT), ("dark", NIGHT)):
            page.prefer(scheme)
            page.becomes(PAPERS, [expected["paper"]])
            page.becomes(HEADINGS, [expected["ink"]])
            assert page.evaluate(CARDS) == [expected["paper"]]
            # what was chosen before stays
            cells = sorted(f"{alpha(4, place):.2f}" for place in range(LAYERS * TYPES))
            page.becomes(CELLS, cells)
            page.becomes(LINES, LAYERS)
    finally:
        page.prefer("light")
    assert page.complaints == []
