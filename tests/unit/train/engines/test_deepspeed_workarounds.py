"""What DeepSpeed would do at every start, and what is done instead."""

from __future__ import annotations

import gc

import pytest

from train.engines.deepspeed_workarounds import without_memory_reports


@pytest.mark.parametrize(("level", "reports"), [("", 0), ("WARNING", 0), ("INFO", 1)])
def test_memory_is_reported_where_the_log_is_asked_for(
    level: str, reports: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deepspeed.runtime import bf16_optimizer

    collections = []
    monkeypatch.setenv("LOG_LEVEL", level)
    monkeypatch.setattr(gc, "collect", lambda: collections.append(1))
    before = bf16_optimizer.see_memory_usage
    with without_memory_reports():
        bf16_optimizer.see_memory_usage("begin bf16_optimizer", force=True)
    assert capsys.readouterr().out.count("begin bf16_optimizer") == len(collections) == reports
    assert bf16_optimizer.see_memory_usage is before
