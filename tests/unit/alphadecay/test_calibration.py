"""What is taken as fastest, by a clock that the solvers move; and where it is kept."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from alphadecay import calibration
from alphadecay.calibration import (
    cache_file,
    fastest_way,
    known_ways,
    read_ways,
    write_ways,
)
from alphadecay.spectral import EstimateRow, Gram
from alphadecay.spectral.solving import Solve, Solver, Way, one_by_one

CPU = torch.device("cpu")
SHAPE = (12, 20)
THREADED = Way(torch.float64, "threads")


class FakeDevice:
    """Solvers that take a set time for a Gram, by name and precision, on a clock of their own."""

    def __init__(self, seconds: dict[tuple[str, torch.dtype], float]) -> None:
        self.now = 0.0
        self.solved = 0
        self._seconds = seconds

    def clock(self) -> float:
        return self.now

    def solvers(self) -> dict[str, Solver]:
        return {name: self._solver(name) for name, _ in self._seconds}

    def _solver(self, name: str) -> Solver:
        def solve_all(grams: Sequence[Gram], solve: Solve) -> list[EstimateRow]:
            self.now += len(grams) * self._seconds[name, grams[0].matrix_KK.dtype]
            self.solved += len(grams)
            return one_by_one(grams, solve)

        return solve_all


def device(**milliseconds: tuple[float, float]) -> FakeDevice:
    """Return a device on which each solver takes so long for a Gram, in float32 and float64."""
    seconds = {}
    for name, (single, double) in milliseconds.items():
        seconds[name, torch.float32] = single
        seconds[name, torch.float64] = double
    return FakeDevice(seconds)


@pytest.mark.parametrize(
    ("fake", "way"),
    [
        # an H200 at 512: float64 is three times as fast, and threads are again
        (device(one_by_one=(13, 4.3), stacked=(12.8, 4.3), threads=(3.9, 1.4)), THREADED),
        # at 2048: float64 costs 8 % more
        (device(one_by_one=(22.7, 24.5), threads=(19.2, 21)), Way(torch.float64, "threads")),
        # a card whose float64 is slow
        (device(one_by_one=(10, 70), threads=(9.5, 40)), Way()),
        (device(one_by_one=(10, 70), stacked=(2, 1)), Way(torch.float32, "stacked")),
        # what gains a twentieth may be noise
        (device(one_by_one=(10, 10), threads=(9.5, 9.5)), Way(torch.float64)),
    ],
)
def test_the_fastest_is_taken(fake: FakeDevice, way: Way) -> None:
    assert fastest_way(SHAPE, CPU, fake.clock, fake.solvers()) == way


def test_a_solver_that_fails_is_not_taken() -> None:
    fake = device(one_by_one=(10, 10))

    def failing(grams: Sequence[Gram], solve: Solve) -> list[EstimateRow]:
        raise torch.OutOfMemoryError("out of memory")

    solvers = fake.solvers() | {"stacked": failing}
    assert fastest_way(SHAPE, CPU, fake.clock, solvers) == Way(torch.float64)


def test_a_device_on_which_nothing_works_keeps_the_default() -> None:
    def failing(grams: Sequence[Gram], solve: Solve) -> list[EstimateRow]:
        raise RuntimeError("no kernel image")

    def clock() -> float:
        return 0.0

    solvers = {"one_by_one": failing, "threads": failing}
    assert fastest_way(SHAPE, CPU, clock, solvers) == Way()


def test_of_a_large_side_only_the_precision_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LARGEST_SIDE", SHAPE[0] - 1)
    fake = device(one_by_one=(13, 4), threads=(4, 1))
    solvers = {"one_by_one": fake.solvers()["one_by_one"], "threads": unasked}
    assert fastest_way(SHAPE, CPU, fake.clock, solvers) == Way(torch.float64)


def unasked(grams: Sequence[Gram], solve: Solve) -> list[EstimateRow]:
    raise AssertionError("several were to be solved")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and a process that knows nothing yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(calibration, "_known", {})
    return tmp_path / "alphadecay"


def ways(name: str, fake: FakeDevice, *shapes: tuple[int, int]) -> dict[tuple[int, int], Way]:
    return known_ways(shapes or (SHAPE,), CPU, name=name, clock=fake.clock, solvers=fake.solvers())


def test_a_device_is_measured_once_in_a_process(cache: Path) -> None:
    fake = device(one_by_one=(13, 4), threads=(4, 1))
    assert ways("card", fake) == {SHAPE: THREADED}
    solved = fake.solved
    assert ways("card", fake) == {SHAPE: THREADED} and fake.solved == solved
    assert set(ways("card", fake, SHAPE, (16, 16))) == {SHAPE, (16, 16)}
    assert solved < fake.solved <= 2 * solved


def test_another_process_reads_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = device(one_by_one=(13, 4), threads=(4, 1))
    ways("card, torch 1", first)
    monkeypatch.setattr(calibration, "_known", {})
    other = device(one_by_one=(1, 9), threads=(9, 9))
    assert ways("card, torch 1", other) == {SHAPE: THREADED} and other.solved == 0
    assert ways("card, torch 2", other) == {SHAPE: Way()} and other.solved > 0
    kept = json.loads(cache_file().read_text())
    assert cache_file().parent == cache and set(kept) == {"card, torch 1", "card, torch 2"}
    assert kept["card, torch 1"] == {"12x20": {"precision": "float64", "solver": "threads"}}
    assert [path.name for path in cache.iterdir()] == [cache_file().name]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"card": 3}', '{"card": {"12x20": {}}}', '{"card": {"12x20": "threads"}}',
     '{"card": {"12x20": {"precision": "float16", "solver": "threads"}}}',
     '{"card": {"12x20": {"precision": "float64", "solver": "of a later version"}}}'],
)  # fmt: skip
def test_a_file_that_says_nothing_is_measured_over(cache: Path, text: str) -> None:
    cache.mkdir()
    cache_file().write_text(text)
    fake = device(one_by_one=(13, 4), threads=(4, 1))
    assert ways("card", fake) == {SHAPE: THREADED} and fake.solved > 0
    assert read_ways(cache_file(), "card") == {"12x20": THREADED}


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(calibration, "_known", {})
    fake = device(one_by_one=(13, 4), threads=(4, 1))
    assert ways("card", fake) == {SHAPE: THREADED}
    write_ways(Path("relative") / "file.json", "card", {"12x20": THREADED})
    assert not Path("relative").exists()


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_file() == Path("/home/someone/.cache/alphadecay/eigensolvers.json")


def test_others_cannot_write_the_file(cache: Path) -> None:
    ways("card", device(one_by_one=(1, 1)))
    assert not cache_file().stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
