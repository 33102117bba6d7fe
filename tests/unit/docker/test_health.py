"""docker/health.py: the container's health from the files of a run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT
from train.loop.run_status import write_state

PROGRAM = ROOT / "docker" / "health.py"
HOUR = 3600.0


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("health", PROGRAM)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., None]:
    """Writes a run's files as they were `age` seconds ago; the clock says 100 hours."""

    def write(name: str, state: str, age: float, metrics_age: float | None = None) -> None:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        write_state(folder, state, step=3)  # type: ignore[arg-type]
        os.utime(folder / "state.json", (100 * HOUR - age,) * 2)
        if metrics_age is not None:
            (folder / "metrics.jsonl").write_text("{}\n")
            os.utime(folder / "metrics.jsonl", (100 * HOUR - metrics_age,) * 2)

    return write


def ask(module: ModuleType, runs: Path, up: float = 50 * HOUR) -> tuple[bool, str]:
    return module.health(runs, 1800.0, 100 * HOUR, 100 * HOUR - up)


def test_nothing_to_be_said_yet(module: ModuleType, tmp_path: Path) -> None:
    assert ask(module, tmp_path) == (True, "no run yet")
    assert ask(module, tmp_path / "none")[0]


@pytest.mark.parametrize(
    ("state", "expected"), [("finished", True), ("stopped", True), ("failed", False)]
)
def test_a_run_that_has_ended(
    module: ModuleType, written: Callable[..., None], tmp_path: Path, state: str, expected: bool
) -> None:
    written("one", state, age=10 * HOUR)
    assert ask(module, tmp_path) == (expected, f"one: {state}")


def test_a_silent_run_is_ill_and_the_newest_file_counts(
    module: ModuleType, written: Callable[..., None], tmp_path: Path
) -> None:
    written("one", "running", age=2 * HOUR)
    assert ask(module, tmp_path) == (False, "one: silent for 7200 s")
    # what was silent is the container before
    assert ask(module, tmp_path, up=60.0) == (True, "one: silent for 60 s")
    written("two", "running", age=1 * HOUR, metrics_age=100.0)
    assert ask(module, tmp_path) == (True, "two: silent for 100 s")
    written("three", "failed", age=30.0)
    assert not ask(module, tmp_path)[0]


def test_a_run_of_a_sweep(module: ModuleType, written: Callable[..., None], tmp_path: Path) -> None:
    written("one", "finished", age=3 * HOUR)
    written("adam/adam-60m-uniform/seed-1", "running", age=2 * HOUR)
    assert ask(module, tmp_path) == (False, "seed-1: silent for 7200 s")


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("failed", 1)])
def test_the_program_says_so_by_its_exit_code(tmp_path: Path, state: str, code: int) -> None:
    (tmp_path / "one").mkdir()
    write_state(tmp_path / "one", state)  # type: ignore[arg-type]
    done = subprocess.run(
        [sys.executable, PROGRAM],
        env=os.environ | {"RUNS": str(tmp_path)},
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, f"one: {state}\n")
