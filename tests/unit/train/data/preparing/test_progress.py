"""What is said while a corpus is prepared."""

from __future__ import annotations

import pytest

from train.data.preparing import progress
from train.data.preparing.progress import Progress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves only when told."""
    time = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: time[0])
    return time


def test_a_line_every_few_seconds_with_exact_counts(now: list[float]) -> None:
    said: list[str] = []
    with Progress("Tokenizing", said.append, expected=3000) as shown:
        for _ in range(30):
            now[0] += 1.0
            shown.advance(100, 50_000)
    assert said == [
        f"Tokenizing: {100 * s:,} of 3,000 documents, {0.05 * s:.2f} M tokens, {s} s"
        for s in (5, 10, 15, 20, 25, 30)
    ]


def test_without_a_terminal_it_goes_to_stderr(
    now: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Progress("Reading", None)
    now[0] += 6.0
    shown.advance(7, 1_000_000)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Reading: 7 documents, 1.00 M tokens, 6 s\n")
