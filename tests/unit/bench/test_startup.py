"""The bench of the start: what it times is there, and a part within another counts once."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.bench import startup_rank


@pytest.mark.parametrize("place", startup_rank.PARTS.values())
def test_what_is_timed_is_there(place: str) -> None:
    module, _, function = place.partition(":")
    assert callable(getattr(import_module(module), function))


def test_an_inner_part_is_taken_off_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(startup_rank.time, "time", lambda: now[0])
    monkeypatch.setattr(startup_rank.time, "process_time", lambda: now[0] / 2)
    parts = startup_rank.Parts()

    def model() -> None:
        now[0] += 4.0

    inner = parts.timed("model", model)

    def engine() -> str:
        now[0] += 1.0
        inner()
        now[0] += 2.0
        return "built"

    assert parts.timed("engine", engine)() == "built"
    now[0] += 50.0  # of no part
    assert parts.seconds["engine"] == {"wall": 3.0, "process": 1.5}
    assert parts.seconds["model"] == {"wall": 4.0, "process": 2.0}
