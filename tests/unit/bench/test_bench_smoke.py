"""The benches of a step and of a refresh run, count what can be counted exactly, and write what
they promise.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import plan, refresh, save, step


def test_step(tmp_path: Path) -> None:
    assert (
        step.main(
            [
                "--size",
                "toy",
                "--stages",
                "3",
                "--repeats",
                "1",
                "--out",
                str(tmp_path / "step.json"),
            ]
        )
        == 0
    )
    results = json.loads((tmp_path / "step.json").read_text())
    (row,) = results["sizes"]["toy"]["stages"]
    assert row["modules"] == 28
    assert all(ratio["step"]["median"] > 0 for ratio in row["over_stock"].values())
    calls = row["calls"]
    # one group, one optimizer step, not a collective more
    assert calls["alphadecay"] == calls["stock"]
    assert calls["stock"]["optimizer_steps"] == calls["stock"]["groups"] == 1
    assert calls["per_module"]["optimizer_steps"] == calls["per_module"]["groups"] == 29
    assert len(results["machine"]["commit"]) in (0, 40)


def test_refresh(tmp_path: Path) -> None:
    arguments = [
        "--size",
        "toy",
        "--ranks",
        "2",
        "--dtype",
        "float32",
        "--repeats",
        "1",
        "--out",
        str(tmp_path / "refresh.json"),
    ]
    assert refresh.main(arguments) == 0
    results = json.loads((tmp_path / "refresh.json").read_text())
    (row,) = results["measured"]
    sent = row["sent_in_total_over_weights"]
    assert sent["moving_only"] == 0.5  # half of each matrix lies on its owner already
    assert sent["published"] == 1.0
    assert 0.5 < sent["alphadecay"] < 0.55  # and a table of 14 rows
    assert row["alpha_difference"] < 1e-4
    assert [plan["ranks"] for plan in results["planned"]["toy"]] == list(refresh.PLANNED_RANKS)


def test_plan_for_more_ranks() -> None:
    """84 matrices on 256 ranks: nobody owns two; one of the 36 costliest is the largest load."""
    last = refresh.growth("130m", [])[-1]
    assert (last["rounds"], last["owners"]) == (1, 84)
    assert last["most_elements_received"] == 2048 * 768 * 255 / 256
    wide = 2.0 * 2048 * 768**2 + 4 * 768**3
    square = 6.0 * 768**3
    assert last["speed_up"] == pytest.approx((36 * wide + 48 * square) / wide)


def test_plan(tmp_path: Path) -> None:
    out = tmp_path / "plan.json"
    arguments = ["--repeats", "1", "--size", "toy", "--ranks", "1", "--out", str(out)]
    assert plan.main(arguments) == 0
    results = json.loads(out.read_text())
    rows = results["plans"]
    assert [(row["modules"], row["ranks"]) for row in rows] == list(plan.SIZES)
    assert rows[1]["rounds"] >= 36_000 / 1024
    assert all(row["seconds"]["median"] > 0 for row in rows)
    assert [row["model"] for row in results["whole_plans"]] == [size for size, _ in plan.WHOLE]
    [refreshed] = results["refreshes"]
    assert refreshed["planned_over_real"]["here"] > 0


def test_save(tmp_path: Path) -> None:
    out = str(tmp_path / "save.json")
    assert save.main(["--size", "toy", "--engine", "fsdp2", "--repeats", "1", "--out", out]) == 0
    results = json.loads(Path(out).read_text())
    (row,) = results["sizes"]["toy"]
    assert row["engine"] == "fsdp2" and row["steps_beside"] >= 1
    assert row["stall"]["median"] == pytest.approx(
        row["asynchronous_seconds"]["median"] / row["plain_seconds"]["median"]
    )
