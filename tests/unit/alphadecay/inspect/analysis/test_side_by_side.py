"""Several matrices at once: in order, in bounded memory, and nothing begun is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from alphadecay.inspect.analysis import side_by_side as module
from alphadecay.inspect.analysis.side_by_side import side_by_side, workers_for


class Cut(BaseException):
    """As a Ctrl-C is one."""


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_order_is_that_of_the_items_whoever_ends_first(workers: int) -> None:
    last_may_end = threading.Event()

    def work(item: int) -> int:
        if workers > 1 and item == 0:  # the first waits for one that was begun after it
            assert last_may_end.wait(60)
        last_may_end.set()
        return item * item

    found = side_by_side(range(9), work, lambda item: 1, workers)
    assert list(found) == [item * item for item in range(9)]


def test_no_more_is_taken_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(12):
            taken.append(item)
            yield item

    sizes = {3: 99}  # alone it is let in
    done = 0
    most = 0
    for _ in side_by_side(items(), lambda item: item, lambda item: sizes.get(item, 4), 8):
        done += 1
        most = max(most, len(taken) - done)
    assert done == 12
    assert most == 2  # one that fits beside the other, and one at the door


def test_what_was_begun_comes_before_the_error_of_taking_another() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise Cut

    found = []
    with pytest.raises(Cut):
        for item in side_by_side(items(), lambda item: item, lambda item: 1, 2):
            found.append(item)
    assert found == [0, 1, 2, 3, 4]


@pytest.fixture
def eight_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("eight_threads")
def test_an_error_of_the_work_is_raised_and_the_process_is_as_it_was() -> None:
    def work(item: int) -> int:
        assert torch.get_num_threads() == 4  # each of two has half of them
        return 1 // (item - 3)

    with pytest.raises(ZeroDivisionError):
        list(side_by_side(range(9), work, lambda item: 1, 2))
    assert torch.get_num_threads() == 8


@pytest.mark.usefixtures("eight_threads")
def test_so_many_at_once_as_there_are_threads_and_room_and_one_on_a_gpu() -> None:
    assert workers_for("cpu", 1) == 8
    assert workers_for("cpu", module.MOST_BYTES // 3) == 3
    assert workers_for("cpu", 2 * module.MOST_BYTES) == 1
    assert workers_for("cuda", 1) == 1
