"""A run under way is followed to its end, line by line and as a picture."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alphadecay.cli import main
from alphadecay.inspect.run import watch as module
from alphadecay.inspect.run.watch import Lines, watch
from alphadecay.inspect.run.watch_text import Snapshot, refresh_line, snapshot_lines
from tests.unit.alphadecay.inspect.html.made_run import make_run, refresh_figures, weight_names
from train.loop.run_status import write_state
from train.telemetry.metrics import MetricsWriter

NAMES = weight_names(3)


def acted(*acts: Callable[[], None]) -> Callable[[], None]:
    """Return a wait in which the run does one thing after the other; a further one is a fault."""
    left: Iterator[Callable[[], None]] = iter(acts)

    def wait() -> None:
        next(left)()

    return wait


def refresh(folder: Path, step: int, since: int) -> None:
    """Append what a run writes at a refresh; its lines after `since` are gone."""
    with MetricsWriter(folder / "metrics.jsonl", since) as writer:
        writer.write("refresh", step, refresh_figures(step + 1, NAMES, True))


def test_a_line_for_each_refresh_until_the_end(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", steps=8, interval=4, state="running")
    said: list[str] = []
    shot = watch(
        folder,
        Lines(said.append),
        acted(
            lambda: refresh(folder, 12, since=8),
            lambda: None,
            lambda: refresh(folder, 8, since=7),
            lambda: write_state(folder, "finished", step=8),
        ),
    )
    assert shot.state == "finished"
    assert [line.partition(":")[0] for line in said] == [
        "step 0",
        "step 4",
        "step 8",
        "step 12",
        "the run went on from step 7; what came after is done again",
        "step 8",
    ]


def test_it_waits_for_a_run_that_has_not_begun(tmp_path: Path) -> None:
    said: list[str] = []

    def begin() -> None:
        with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
            writer.write("refresh", 0, refresh_figures(0, NAMES, True))

    end = lambda: write_state(tmp_path, "failed", reason="no more disk")  # noqa: E731
    shot = watch(tmp_path, Lines(said.append), acted(lambda: None, begin, end))
    assert shot.state == "failed" and len(said) == 1


def test_a_line_by_hand() -> None:
    names = ["a.layers.0.q_proj.weight", "a.layers.1.q_proj.weight", "a.layers.2.up_proj.weight"]
    record = {
        "kind": "refresh",
        "step": 1500,
        "alphas": dict(zip(names, (2.5, 1.25, 4.0), strict=True)),
        "weight_decays": dict(zip(names, (0.1, 0.05, 0.25), strict=True)),
        "refresh_seconds": 0.4321,
    }
    assert refresh_line(record, "alpha") == (
        "step 1,500: alpha 2.50, 1.25 (1 q) to 4.00 (2 up), decay 0.0500 to 0.250, 0.43 s"
    )
    nothing = {"kind": "refresh", "step": 2, "alphas": {names[0]: None}, "weight_decays": {}}
    assert refresh_line(nothing, "alpha") == "step 2: nothing was measured"


def test_the_picture_by_hand() -> None:
    q = "x.layers.{}.q_proj.weight"
    alphas = [{q.format(0): alpha, q.format(1): alpha + 1} for alpha in (1, 3, 2)]
    records = [
        {
            "kind": "refresh",
            "step": 10 * i,
            "alphas": one,
            "weight_decays": {},
            "refresh_seconds": 1,
        }
        for i, one in enumerate(alphas)
    ]
    records.append({"kind": "train", "step": 25, "loss": 3.25})
    shot = Snapshot("r", "alphadecay", "alpha", "running", 100, records)
    assert list(snapshot_lines(shot)) == [
        "r: running at step 25 of 100, alphadecay",
        "loss 3.2500",
        "",
        "step 20: alpha 2.50, 2.00 (0 q) to 3.00 (1 q), 1 s",
        "",
        "type   alpha of the layers                 decay  middle, 3 refreshes",
        "q           2.00 2.50 3.00                     -  ▁█▅",
    ]


@pytest.mark.parametrize("method", ["alphadecay", "frobenius_norm", "uniform"])
@pytest.mark.parametrize("layers", [3, 80])
def test_once_fits_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, layers: int
) -> None:
    interval = 0 if method == "uniform" else 4
    folder = make_run(
        tmp_path / "run", method=method, interval=interval, layers=layers, name="n" * 90
    )
    assert main(["watch", str(folder), "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines) and "\x1b" not in "".join(lines)
    assert ("No refreshes: the method uniform" in lines[-1]) == (method == "uniform")


def test_many_types_are_counted() -> None:
    alphas = {f"x.layers.0.experts.{i}.up_proj.weight": 2.0 for i in range(40)}
    record = {"kind": "refresh", "step": 1, "alphas": alphas, "weight_decays": {}}
    lines = list(snapshot_lines(Snapshot("r", "", "alpha", "", None, [record])))
    assert lines[-1] == "and 16 more types" and lines[0] == "r: state unknown at step 1"


def test_piped_it_prints_lines_and_ends_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "run", steps=8)
    assert main(["watch", str(folder)]) == 0
    *refreshes, end = capsys.readouterr().out.splitlines()
    assert len(refreshes) == 3 and end.startswith("finished at step 8 of 8, alphadecay: loss ")


class Terminal(io.StringIO):
    """A terminal that keeps what it was told."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_without_colour_the_picture_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "run", state="running")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(module.time, "sleep", lambda _: write_state(folder, "failed"))
    assert main(["watch", str(folder)]) == 1
    text = terminal.getvalue()
    assert text.count("a run: ") >= 2 and "a run: failed at step 12 of 12" in text
    assert "\x1b[3" not in text  # no colour; what moves the cursor is another letter's


def test_control_c_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "run", state="running")

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupt)
    assert main(["watch", str(folder)]) == 0


def test_it_says_that_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupt)
    assert main(["watch", str(tmp_path)]) == 0
    assert "waiting for a run to begin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"), [("missing", "no such folder"), ("", "no run has begun there")]
)
def test_what_is_no_run_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    assert main(["watch", str(tmp_path / name), "--once"]) == 2
    assert said in capsys.readouterr().err


def test_a_damaged_line_does_not_end_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", steps=8)
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["kind"] == "refresh"
    path.write_text("\n".join(["{", *lines[1:]]) + "\n")
    said: list[str] = []
    watch(folder, Lines(said.append), acted())
    assert len(said) == 2
