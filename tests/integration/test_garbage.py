"""A run's steps are taken while Python does not collect garbage by itself; after it, it does."""

from __future__ import annotations

import gc
from typing import Any

from tests.distributed.harness import run_ranks
from tests.integration.ranks import make_trainer
from train.loop import trainer as loop


def collecting(rank: int, arguments: list[str]) -> dict[str, Any]:
    """Whether Python collects by itself before, within and after; the steps asked about."""
    trainer = make_trainer(rank, 1, arguments)
    before = gc.isenabled()
    within = []
    asked = []
    step = trainer.engine.step
    due = loop.collect_if_due

    def watched_step() -> None:
        within.append(gc.isenabled())
        step()

    def watched_due(number: int) -> bool:
        asked.append(number)
        return due(number)

    trainer.engine.step = watched_step  # type: ignore[method-assign]
    loop.collect_if_due = watched_due
    trainer.train()
    trainer.telemetry.close()
    return {"before": before, "within": within, "after": gc.isenabled(), "asked": asked}


def test_no_collection_falls_within_a_step(workplace, finished):
    finished("python")  # the corpus is prepared
    arguments = ["--config", str(workplace.recipe), "--run.steps", "2"]
    arguments += ["--data.directory", str(workplace.folder / "prepared")]
    arguments += ["--output_dir", str(workplace.folder / "other-garbage")]
    [seen] = run_ranks(1, collecting, arguments)
    assert seen["before"] and seen["after"]
    assert seen["within"] and not any(seen["within"])
    assert seen["asked"] == [1, 2]
