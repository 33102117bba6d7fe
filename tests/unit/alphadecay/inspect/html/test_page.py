"""The page is one file that fetches nothing, and text of a run is text in it, whatever it holds."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from alphadecay.inspect.html.page import PAPER
from alphadecay.inspect.html.report import render
from alphadecay.inspect.run.reader import read_run
from tests.unit.alphadecay.inspect.html.made_run import island, make_run, weight_names
from train.telemetry.metrics import MetricsWriter

NASTY = (
    '</script><script>alert(1)</script><img src="https://example.org/x.png" '
    """onerror='alert(2)'> & "quoted" {{x}}"""
)
LOADING = ("src", "srcset", "href", "data", "action", "poster", "background", "formaction", "ping")


class Elements(HTMLParser):
    """Gathers every element with its attributes, and the text inside elements of each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        self.texts.setdefault(self._open, []).append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return render(read_run(make_run(tmp_path_factory.mktemp("plain") / "run")))


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    folder = make_run(
        tmp_path_factory.mktemp("nasty") / "run", name=NASTY, state="failed", reason=NASTY
    )
    with MetricsWriter(folder / "metrics.jsonl", resume_step=10**9) as writer:
        writer.write("notice", 12, {"notice": NASTY})
        decays = {
            f"model.layers.{i}.self_attn.{NASTY.replace('.', '')}_proj.weight": 0.1 + i
            for i in range(2)
        }
        writer.write(
            "refresh", 13, {"alphas": decays, "weight_decays": decays, "statuses": {NASTY: NASTY}}
        )
    return folder, render(read_run(folder))


def test_nothing_is_loaded_from_anywhere(plain, nasty):
    for text in (plain, nasty[1]):
        elements = Elements(text)
        loads = [
            (tag, name, value)
            for tag, attributes in elements.elements
            for name, value in attributes.items()
            if name in LOADING
        ]
        assert loads == [("a", "href", PAPER)]
        assert not elements.of("link") and not elements.of("img") and not elements.of("iframe")
        assert not re.search(r"@import|url\(", "".join(elements.texts["style"]))


def test_the_policy_allows_these_scripts_and_no_network(plain):
    elements = Elements(plain)
    policy = next(
        a["content"]
        for a in elements.of("meta")
        if a.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (
        rules["default-src"] == "'none'"
        and "connect-src" not in rules
        and rules["img-src"] == "data: blob:"
    )
    scripts = re.findall(r"<script>(.*?)</script>", plain, re.DOTALL)
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    }
    assert len(hashes) == 2 and set(rules["script-src"].split()) == hashes


def test_a_phone_is_told_its_width_and_the_page_its_language(plain):
    elements = Elements(plain)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in elements.of(
        "meta"
    )
    assert elements.of("html") == [{"lang": "en"}] and {"charset": "utf-8"} in elements.of("meta")


def test_text_of_the_run_stays_text(plain, nasty):
    _, text = nasty
    elements = Elements(text)
    usual = Elements(plain)
    kinds = [{tag for tag, _ in page.elements} for page in (usual, elements)]
    assert kinds[1] == kinds[0]
    assert len(elements.of("script")) == 5 and not [
        a for _, a in elements.elements if any(name.startswith("on") for name in a)
    ]
    assert elements.texts["title"][0] == f"{NASTY}: report" and elements.texts["h1"][0] == NASTY
    assert NASTY in "".join(elements.texts["td"])


def test_names_are_no_markup_in_charts_either(nasty):
    _, text = nasty
    held = str(island(text, "figures")) + str(island(text, "refreshes"))
    assert "<script" not in held and "<img" not in held and "&lt;img" in held
    # And no text at all could end the element that holds it.
    assert len(
        islands := re.findall(r'id="(?:figures|refreshes)">(.*?)</script>', text, re.DOTALL)
    ) == 2 and not any("<" in i for i in islands)


def test_the_configuration_is_there_to_the_letter(nasty):
    folder, text = nasty
    assert (
        "".join(Elements(text).texts["pre"]).strip() == (folder / "config.yaml").read_text().strip()
    )


def test_a_large_run_stays_small(tmp_path):
    folder = make_run(tmp_path / "run", interval=0)
    names = weight_names(24)
    with MetricsWriter(folder / "metrics.jsonl", resume_step=12) as writer:
        for refresh in range(200):
            values = {
                name: 2.0 + ((refresh * 37 + place * 101) % 997) / 991
                for place, name in enumerate(names)
            }
            writer.write("refresh", 500 * refresh, {"alphas": values, "weight_decays": values})
    text = render(read_run(folder))
    assert len(text.encode()) < 5.9e6 and len(island(text, "refreshes")["steps"]) == 200
