"""The tests that `make gpu` finds and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu import marked


def test_every_file_with_the_marker_is_found(root: Path) -> None:
    names = {Path(file).name for file in marked.files()}
    assert {"test_refresh.py", "test_clock.py", "test_deepspeed_optimizers.py"} <= names


def test_outcomes_are_counted_and_failures_named() -> None:
    outcomes = marked._Outcomes()

    def report(name: str, outcome: str, when: str) -> None:
        outcomes.pytest_runtest_logreport(
            pytest.TestReport(name, ("", None, ""), {}, outcome, None, when)  # type: ignore[arg-type]
        )

    report("one", "passed", "setup")
    report("one", "passed", "call")
    report("one", "passed", "teardown")
    report("two", "skipped", "setup")
    report("three", "failed", "call")
    assert outcomes.named == {"passed": ["one"], "failed": ["three"], "skipped": ["two"]}
