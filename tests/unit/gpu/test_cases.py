"""The runner: order, budget, and cases that fail, run out of memory or never end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu.__main__ import all_cases
from tests.gpu.cases import SPARE, Budget, Case, Figures, Session, is_right, run_case, run_cases
from train.cluster.distributed import World

SESSION = Session(World(0, 0, 1, torch.device("cpu")), toy=True, folder=Path("unused"))


def case(name: str, run: Callable[[Session], Figures], estimate: float = 0.0) -> Case:
    return Case("part", name, estimate, run)


def fails(session: Session) -> Figures:
    raise ValueError("broken")


def runs_out(session: Session) -> Figures:
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


def never_ends(session: Session) -> Figures:
    while True:
        time.sleep(0.001)


def test_what_goes_wrong_is_recorded_and_the_next_goes_on() -> None:
    written: list[list[str]] = []
    cases = [case("one", fails), case("two", runs_out), case("three", lambda s: {"value": 3.0})]
    parts = run_cases(
        cases,
        SESSION,
        Budget(1e6, time.monotonic()),
        lambda parts: written.append([*parts["part"]]),
    )
    part = parts["part"]
    assert part["one"]["failed"] == "ValueError: broken"
    assert part["two"]["out_of_memory"] == "CUDA out of memory."
    assert part["three"]["value"] == 3.0 and part["three"]["seconds"] >= 0.0
    assert written == [["one"], ["one", "two"], ["one", "two", "three"]]  # after each


def test_a_case_that_never_ends_is_cut_off() -> None:
    assert run_case(case("long", never_ends), SESSION, 0.05)["cut_off"] == "not done within 0 s"
    assert "value" in run_case(case("next", lambda s: {"value": 1}), SESSION, 1e6)


def test_what_the_budget_is_too_small_for_is_left_out_and_a_smaller_one_runs() -> None:
    ran = []

    def note(name: str) -> Callable[[Session], Figures]:
        return lambda session: {"count": ran.append(name)}

    cases = [case("large", note("large"), 2e6), case("small", note("small"), 1.0)]
    parts = run_cases(cases, SESSION, Budget(1e6, time.monotonic()), lambda parts: None)
    assert ran == ["small"]
    assert parts["part"]["large"]["left_out"].endswith("it takes about 2e+06")
    spent = Budget(100.0, time.monotonic() - 100.0 + SPARE)
    parts = run_cases(cases[1:], SESSION, spent, lambda parts: None)
    assert parts["part"]["small"]["left_out"].startswith("0 s were left")


@pytest.mark.parametrize(
    ("figures", "right"),
    [
        ({"ok": True}, True),
        ({"left_out": ""}, True),
        ({"ok": False}, False),
        ({"failed": ""}, False),
    ],
)
def test_the_verdict(figures: dict[str, Any], right: bool) -> None:
    assert is_right({"part": {"case": figures, "other": {"value": 1.0}}}) is right


def test_the_order_is_that_of_worth() -> None:
    cases = list(all_cases())
    order = list(dict.fromkeys(case.part for case in cases))
    assert order[:5] == ["equality", "tests", "refreshes", "eigvalsh", "steps"]
    assert (
        order.index("speed")
        < order.index("engines")
        < order.index("program")
        < order.index("saves")
        < order.index("ablations")
        < order.index("stacks")
    )
    assert len({(case.part, case.name) for case in cases}) == len(cases)
    needed = [case for case in cases if case.part in order[: order.index("speed") + 1]]
    # 25 s for the imports: what a lease is for fits the default budget
    assert sum(case.estimate for case in needed) < 480 - 25
