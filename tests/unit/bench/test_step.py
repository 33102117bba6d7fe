"""The bench of a step makes its ratios of the arms that were asked for, and judges the methods."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench import step
from tests.bench.step import CLOCKS, bench_stage, parse, report

SECONDS = {"lawn": [1.0, 1.1, 1.2], "hyperball": [1.2, 1.2, 1.2], "stock": [1.0, 1.0, 1.2]}


def timed(ranks: int, job: Any, *options: Any) -> list[dict[str, Any]]:
    """What ranks would find: the second one is slower throughout."""
    first = {name: dict.fromkeys(CLOCKS, SECONDS[name]) for name in options[-1]}
    second = {name: {c: [1.5 * s for s in arm[c]] for c in CLOCKS} for name, arm in first.items()}
    return [
        {"times": each, "calls": {}, "modules": 28, "parameters": 9} for each in (first, second)
    ]


def test_ratios_of_the_arms_that_were_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step, "run_ranks", timed)
    row = bench_stage("toy", 0, 2, 3, False, ("lawn", "hyperball", "stock"))
    assert set(row["seconds"]) == {"lawn", "hyperball", "stock"}
    assert row["seconds"]["stock"]["step"]["median"] == pytest.approx(1.5)  # the slower rank's
    assert row["over_stock"].keys() == {"lawn", "hyperball"}
    assert row["over_stock"]["lawn"]["step"]["median"] == pytest.approx(1.0)
    assert row["over_stock"]["hyperball"]["step"]["median"] == pytest.approx(1.2)
    assert not report(row, target=1.03)
    said = capsys.readouterr().out
    assert "stage 0 lawn target 1.05: met" in said
    assert "stage 0 hyperball target 1.05: MISSED" in said


def test_arms_by_name() -> None:
    assert parse(["--arms", "lawn", "awd"]).arms == ["lawn", "awd"]
    assert parse([]).arms == ["alphadecay", "stock", "stock_again", "per_module"]
    with pytest.raises(SystemExit):
        parse(["--arms", "faster"])
