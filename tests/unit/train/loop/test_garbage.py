"""Garbage is collected after the steps that it is due after, and at no other time."""

from __future__ import annotations

import gc
import weakref

from train.loop.garbage import EVERY, collect_if_due, collected_between_steps


class Node:
    """Holds itself: only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


def garbage() -> weakref.ref[Node]:
    return weakref.ref(Node())


def test_garbage_waits_for_the_step_that_it_is_due_after():
    assert gc.isenabled()
    with collected_between_steps():
        assert not gc.isenabled() and gc.get_freeze_count() > 0
        left = garbage()
        [Node() for _ in range(10_000)]  # enough to set an automatic collection off
        assert not collect_if_due(EVERY - 1) and left() is not None
        assert collect_if_due(EVERY) and left() is None
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_it_is_switched_on_again_after_an_error():
    try:
        with collected_between_steps():
            raise ValueError
    except ValueError:
        assert gc.isenabled()


def test_a_process_that_never_collects_goes_on_so():
    gc.disable()
    try:
        with collected_between_steps():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
