"""The tests that carry the marker gpu, by pytest in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gpu.cases import Case, Figures

TESTS = Path(__file__).resolve().parents[1]
KERNELS = "fused_kernels"  # DeepSpeed compiles them first, which takes over a minute


def cases() -> Iterator[Case]:
    """Yield the tests that need nothing built."""
    yield Case("tests", "gpu", 45.0, lambda session: run(f"not {KERNELS}"))


def kernel_cases() -> Iterator[Case]:
    """Yield the tests of DeepSpeed's own kernels."""
    yield Case("tests", "DeepSpeed's kernels", 90.0, lambda session: run(KERNELS))


class _Outcomes:
    """Notes what became of each test."""

    def __init__(self) -> None:
        self.named: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.named[report.outcome].append(report.nodeid)


def files() -> list[str]:
    """Return the files that have such a test."""
    return [
        str(path) for path in sorted(TESTS.rglob("test_*.py")) if "mark.gpu" in path.read_text()
    ]


def run(expression: str) -> Figures:
    """Run those that the expression names."""
    outcomes = _Outcomes()
    words = ["-q", "-m", "gpu", "-k", expression, "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    code = pytest.main([*words, *files()], plugins=[outcomes])
    return {
        "passed": len(outcomes.named["passed"]),
        "skipped": len(outcomes.named["skipped"]),
        "failures": outcomes.named["failed"],
        "ok": code == pytest.ExitCode.OK,
    }
