"""The step clock: host time on a CPU, the device's time line on CUDA."""

import time

import pytest
import torch

from alphadecay.inspect.run.parts import PARTS, training_seconds
from train.telemetry import clock
from train.telemetry.clock import StepClock


@pytest.fixture
def now(monkeypatch):
    """A clock that moves only when told."""
    time = [10.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: time[0])
    return time


def test_parts_add_up_and_a_reading_starts_anew(now):
    timed = StepClock(torch.device("cpu"))
    for seconds in (1.0, 2.0):
        with timed.part("data"):
            now[0] += seconds
        now[0] += 50.0  # no part
        with timed.part("step"):
            now[0] += 10 * seconds
    with timed.part("evaluation"):
        now[0] += 7.0
    found = timed.read()
    assert found == dict.fromkeys(PARTS, 0.0) | {"data": 3.0, "step": 30.0, "evaluation": 7.0}
    assert training_seconds(found) == 33.0
    assert timed.read() == dict.fromkeys(PARTS, 0.0)


def test_a_failure_inside_is_timed_and_passed_on(now):
    timed = StepClock(torch.device("cpu"))
    with pytest.raises(ZeroDivisionError), timed.part("step"):
        now[0] += 1.0
        _ = 1 / 0
    assert timed.read()["step"] == 1.0


def test_an_unknown_part_is_refused():
    with (
        pytest.raises(ValueError, match=r"steps is no part.*forward_backward"),
        StepClock(torch.device("cpu")).part("steps"),
    ):
        pass


def test_compiling_is_a_part_of_its_own(now, monkeypatch):
    compiled = [100.0]
    monkeypatch.setattr(clock, "compile_seconds", lambda: compiled[0])
    timed = StepClock(torch.device("cpu"))
    with timed.part("forward_backward"):
        now[0] += 25.0
        compiled[0] += 20.0
    with timed.part("forward_backward"):
        now[0] += 5.0
    found = timed.read()
    assert (found["forward_backward"], found["compiling"]) == (10.0, 20.0)
    assert training_seconds(found) == 10.0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_nothing_waits_until_it_is_read():
    device = torch.device("cuda")
    matrix = torch.randn(8192, 8192, device=device)
    matrix @ matrix
    torch.cuda.synchronize()
    timed = StepClock(device)
    started = time.perf_counter()
    with timed.part("forward_backward"):
        for _ in range(50):
            matrix @ matrix
    with timed.part("data"):
        pass
    queued = time.perf_counter() - started
    found = timed.read()
    whole = time.perf_counter() - started
    assert queued < whole / 2  # the host was free while the device worked
    assert (
        found["forward_backward"] == pytest.approx(whole, rel=0.2) and found["data"] < 0.01 * whole
    )
