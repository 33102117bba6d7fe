"""Memory, sums over the run, and the profiler's window."""

import json

import pytest
import torch

from alphadecay.inspect.run.parts import PARTS
from train.cluster.distributed import World
from train.telemetry.profiler import ProfileWindow
from train.telemetry.usage import Totals, memory, over_ranks

CPU = torch.device("cpu")


def seconds(**given):
    return dict.fromkeys(PARTS, 0.0) | given


def test_memory_sees_an_allocation():
    before = memory(CPU)["peak_resident_bytes"]
    block = torch.ones(100_000_000, dtype=torch.uint8)
    after = memory(CPU)
    assert after["peak_resident_bytes"] >= after["resident_bytes"] > block.numel()
    assert after["peak_resident_bytes"] >= before


def test_totals_survive_a_checkpoint():
    whole = Totals()
    first = Totals()
    second = Totals()
    windows = [
        (100, 5.0, 50.0, seconds(data=1.0, step=3.0), {"peak_resident_bytes": 7.0}),
        (300, 15.0, 50.0, seconds(step=4.0, evaluation=8.0), {"peak_resident_bytes": 5.0}),
    ]
    for window in windows:
        whole.add(*window)
    first.add(*windows[0])
    second.load(json.loads(json.dumps(first.state_dict())))
    second.add(*windows[1])
    assert second == whole
    summary = whole.summary()
    assert (
        summary["seconds_training"] == 8.0
        and summary["tokens_per_second"] == 50.0
        and summary["mfu"] == 0.2
    )
    assert summary["memory"] == {"peak_resident_bytes": 7.0}
    assert summary["time_shares"] == {
        name: share / 16 for name, share in seconds(data=1.0, step=7.0, evaluation=8.0).items()
    }


def test_nothing_timed_is_no_figure():
    assert Totals().summary() == {
        "seconds_training": 0,
        "tokens_per_second": None,
        "mfu": None,
        "memory": {},
        "time_shares": {},
    }


class TwoRanks(World):
    """This rank, and one that holds twice as much."""

    def gather(self, value):
        return [value, tuple({key: 2 * number for key, number in part.items()} for part in value)]


def test_the_fullest_rank_and_the_mean_one():
    most, mean = over_ranks({"bytes": 3.0}, {"data": 2.0}, TwoRanks(0, 0, 2, CPU))
    assert (most, mean) == ({"bytes": 6.0}, {"data": 3.0})
    assert over_ranks({"bytes": 3.0}, {"data": 2.0}, World(0, 0, 1, CPU)) == (
        {"bytes": 3.0},
        {"data": 2.0},
    )


def steps(window, numbers):
    written = []
    for step in numbers:
        window.begin(step)
        torch.ones(8) @ torch.ones(8)
        written.append(window.end(step))
    return written


def test_the_window_is_traced_and_nothing_else(tmp_path):
    written = steps(ProfileWindow(3, 2, tmp_path), range(1, 7))
    assert written == [None, None, None, tmp_path / "trace-step-00000003.json", None, None]
    names = [event.get("name") for event in json.loads(written[3].read_text())["traceEvents"]]
    assert names.count("aten::dot") == 2 or names.count("aten::matmul") == 2


def test_a_window_cut_by_the_end_is_written(tmp_path):
    window = ProfileWindow(2, 10, tmp_path)
    assert steps(window, [1, 2, 3]) == [None, None, None]
    assert window.close() == tmp_path / "trace-step-00000002.json" and window.close() is None


@pytest.mark.parametrize("first", [0, 9])
def test_no_window(tmp_path, first):
    window = ProfileWindow(first, 3, tmp_path)
    assert (
        steps(window, range(1, 4)) == [None] * 3
        and window.close() is None
        and not list(tmp_path.iterdir())
    )
