"""The order of what a run does at its end."""

from __future__ import annotations

from unittest.mock import MagicMock

from train.loop.trainer import Trainer


def test_a_run_that_stops_saves_before_it_waits_for_the_end_of_its_readers():
    trainer = MagicMock(decay=None, step=3, stopped="SIGTERM")
    trainer.config.run.steps = 9
    Trainer.train(trainer)
    calls = [name for name, _, _ in trainer.mock_calls]
    expected = ["supply.__enter__", "save", "supply.__exit__", "saver.close", "supply.check"]
    assert [name for name in calls if name in expected] == expected
    trainer.save.assert_called_once_with(last=True)
