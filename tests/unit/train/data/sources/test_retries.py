"""Streams that break off: gone on with after growing pauses, or given up with the reason."""

from __future__ import annotations

import pytest

from train.data.sources import retries
from train.data.sources.chunks import Chunk
from train.data.sources.retries import may_pass, with_retries
from train.errors import Stopped, UserError


class RevisionNotFoundError(OSError):
    """Named as the hub's client names it."""


class HTTPError(Exception):
    def __init__(self, status):
        super().__init__(f"status {status}")
        self.response = type("Response", (), {"status_code": status})()


def stream(failures, opened):
    """Chunks 0 to 5; it breaks off before a chunk as often as `failures` says."""

    def read(start):
        first = start["rows"] if start else 0
        opened.append(first)
        for number in range(first, 6):
            if failures.get(number):
                raise failures[number].pop(0)
            yield Chunk("value", rows=[("c4", number, "text")], after={"rows": number + 1})

    return read


@pytest.fixture
def pauses(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", slept.append)
    return slept


def numbers(chunks):
    return [row[1] for chunk in chunks for row in chunk.rows]


def test_it_goes_on_where_it_broke_off_and_says_so(pauses, capsys):
    opened: list[int] = []
    failures = {2: [ConnectionError("no route\nmore")] * 2, 4: [TimeoutError(), EOFError("cut")]}
    assert numbers(with_retries(stream(failures, opened), None, "c4")) == list(range(6))
    assert opened == [0, 2, 2, 4, 4]
    assert pauses == [2, 10, 2, 10]  # counted anew after a chunk that came
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "c4: ConnectionError: no route; trying again in 2 s (1 of 6)"
    assert len(said) == 4


def test_it_gives_up_after_so_many_tries_in_a_row(pauses):
    failures = {1: [ConnectionError("no route")] * 9}
    chunks = with_retries(stream(failures, []), {"rows": 1}, "c4")
    with pytest.raises(UserError, match=r"\(ConnectionError: no route\), after 6 further tries"):
        list(chunks)
    assert pauses == list(retries.PAUSES) == sorted(pauses)


def test_it_gives_up_at_once_where_no_try_would_help(pauses):
    gone = RevisionNotFoundError("404")
    with pytest.raises(UserError, match=r"RevisionNotFoundError: 404\)\. Check .*data.revision"):
        list(with_retries(stream({0: [gone]}, []), None, "c4"))
    for error in (Stopped("SIGTERM"), UserError("mine")):
        with pytest.raises(type(error)):
            list(with_retries(stream({0: [error]}, []), None, "c4"))
    assert pauses == []


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionError(), True),
        (TimeoutError(), True),
        (EOFError(), True),
        (HTTPError(503), True),
        (HTTPError(429), True),
        (HTTPError(404), False),
        (HTTPError(401), False),
        (OSError(28, "No space left on device"), False),
        (OSError(116, "Stale file handle"), True),
        (ValueError("no such configuration"), False),
    ],
)
def test_which_errors_may_pass(error, passes):
    assert may_pass(error) == passes
    outer = RuntimeError("while streaming")
    outer.__cause__ = error
    assert may_pass(outer) == passes
