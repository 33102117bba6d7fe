"""What a file system does not give at the moment is asked for again."""

from __future__ import annotations

import errno
import os

import pytest

from train.system import patience
from train.system.patience import PAUSES, patiently


class Flaky:
    """An action that fails so many times."""

    def __init__(self, number: int, failures: int) -> None:
        self.number = number
        self.failures = failures
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError(self.number, os.strerror(self.number), "/mnt/x")
        return "there"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("failures", [0, 1, len(PAUSES)])
def test_it_waits_longer_each_time_and_says_so(pauses: list[float], failures: int) -> None:
    said: list[str] = []
    assert patiently(Flaky(errno.ESTALE, failures), said.append) == "there"
    assert pauses == list(PAUSES[:failures]) and len(said) == failures
    if failures:
        assert said[0] == "[Errno 116] Stale file handle: '/mnt/x'; trying again in 2 s"


def test_it_gives_up_in_the_end(pauses: list[float]) -> None:
    action = Flaky(errno.EIO, 100)
    with pytest.raises(OSError, match="Input/output error"):
        patiently(action, lambda line: None)
    assert action.calls == len(PAUSES) + 1 and pauses == list(PAUSES)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_what_no_further_try_mends_is_told_at_once(pauses: list[float], number: int) -> None:
    with pytest.raises(OSError, match=os.strerror(number)):
        patiently(Flaky(number, 1))
    assert pauses == []
