"""The page of several runs: what it holds, and that a browser draws it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alphadecay.cli import main
from alphadecay.inspect.html.compare import render
from alphadecay.inspect.run.comparison import read_comparison
from tests.unit.alphadecay.inspect.html.browser import browsing, find_browser
from tests.unit.alphadecay.inspect.html.made_run import alpha, chart, island, make_run
from train.telemetry.metrics import read_metrics

BROWSER = find_browser()
ATTEMPT = (
    {"attempt": 1, "began": 0.0, "loop": 5.0, "first_step": 0},
    {"attempt": 1, "time": 50.0, "step": 12, "seconds": {"forward_backward": 40.0, "data": 2.0}},
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs that differ in method, size and length, one of them with other steps; and no run."""
    place = tmp_path_factory.mktemp("compared")
    made = [
        make_run(place / "a", name="small <b>", layers=2),
        make_run(place / "b", name="plain", method="uniform", interval=0),
        make_run(place / "c", name="large", steps=20, layers=5, state="running"),
        make_run(place / "d", name="norms", method="frobenius_norm"),
    ]
    (made[0] / "attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in ATTEMPT))
    lines = read_metrics(made[2] / "metrics.jsonl")
    for record in lines:
        if record["kind"] == "train":
            record["tokens"] *= 4
    (made[2] / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "e").mkdir()
    return [*made, place / "e"]


@pytest.fixture(scope="module")
def text(folders: list[Path]) -> str:
    return render(read_comparison(folders))


def test_every_run_has_a_curve_of_its_own(text: str) -> None:
    traces = chart(text, "validation")["traces"]
    assert list(traces) == ["small &lt;b&gt;", "plain", "large", "norms"]
    assert traces["large"]["x"] == [0, 20] and traces["plain"]["x"] == [0, 12]
    over_tokens = chart(text, "validation-tokens")["traces"]
    assert over_tokens["large"]["x"] == [0, 8000] and over_tokens["plain"]["x"] == [0, 1200]
    colours = [trace["line"]["color"] for trace in traces.values()]
    assert len(set(colours)) == 4
    training = chart(text, "training")["traces"]
    assert [trace["line"]["color"] for trace in training.values()] == colours
    assert training["plain"]["y"][2] is None  # the step that was not finite stays a gap


def test_maps_share_their_colours_and_norms_are_no_alphas(text: str) -> None:
    ids = [figure["id"] for figure in island(text, "figures")]
    assert [name for name in ids if name.startswith("map-alpha")] == ["map-alpha-0", "map-alpha-1"]
    assert [name for name in ids if name.startswith("map-decay")] == [
        f"map-decay-{place}" for place in range(3)
    ]
    maps = [chart(text, f"map-alpha-{place}")["data"][0] for place in range(2)]
    shown = [alpha(12, place) for place in range(14)] + [alpha(20, place) for place in range(35)]
    for one in maps:
        assert one["zmin"] == pytest.approx(min(shown)) and one["zmax"] == pytest.approx(max(shown))
    assert maps[1]["z"][4][6] == pytest.approx(alpha(20, 34))
    assert "The models differ in their layers or types." in text


def test_seconds_and_goodput(text: str) -> None:
    seconds = chart(text, "seconds")["traces"]
    assert seconds["data"]["y"] == ["small &lt;b&gt;", "plain", "large", "norms"]
    # 0.01 s and 0.1 ms a step more: the mean over steps 1 to 12
    assert seconds["data"]["x"][0] == pytest.approx(0.01 + 6.5e-4)
    goodput = chart(text, "goodput")["traces"]
    assert goodput["training"]["x"] == pytest.approx([80.0, 0, 0, 0])
    assert goodput["start"]["x"][0] == pytest.approx(10.0)


def test_what_is_missing_and_what_differs_is_said(text: str, folders: list[Path]) -> None:
    plain = text.replace("<wbr>", "")
    assert "<b>plain</b>: its method, uniform, measures no alpha." in plain
    assert "<b>large</b>: it is running at step 20 of 20." in plain
    assert "<b>left out</b>: " in plain and str(folders[4]) in plain
    assert "<td>uniform</td>" in plain and "decay.method" in plain
    assert "small &lt;b&gt;" in plain and "small <b>" not in plain


def test_runs_alike_have_one_axis_and_nothing_apart(tmp_path: Path) -> None:
    made = [make_run(tmp_path / name, name=name) for name in ("one", "two")]
    text = render(read_comparison(made))
    assert "Nothing in their configurations" in text
    assert "validation-tokens" not in [figure["id"] for figure in island(text, "figures")]


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("")
    text = render(read_comparison([folder]))
    assert text.count("None: no run has any.") == 2 and "Nothing was timed." in text


def test_the_command_writes_it(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "c.html"
    assert main(["compare", *map(str, folders[:2]), "--out", str(out)]) == 0
    assert f"{out}: 4." in capsys.readouterr().out
    assert out.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.skipif(BROWSER is None, reason="needs a Chromium")
@pytest.mark.parametrize(("width", "phone"), [(390, True), (1280, False)])
def test_a_browser_draws_every_chart_and_nothing_is_fetched(
    text: str, tmp_path: Path, width: int, phone: bool
) -> None:
    page = tmp_path / "compare.html"
    page.write_text(text)
    with browsing(str(BROWSER), tmp_path / "profile") as tab:
        tab.size(width, 800, phone=phone)
        tab.open(page)
        drawn = tab.evaluate("document.documentElement.dataset.drawn")
        assert drawn == str(len(island(text, "figures")))
        assert tab.complaints == [] and tab.requests == [page.as_uri()]
        wide = tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= width
        narrowest = "Math.min(...[...document.querySelectorAll('td')].map(e => e.clientWidth))"
        assert tab.evaluate(narrowest) > 60
