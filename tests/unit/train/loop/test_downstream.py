"""Tasks are loaded by every rank, or the run is refused on every rank."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from train.config import EvalConfig
from train.errors import UserError
from train.loop import downstream
from train.loop.downstream import load_downstream


def world(*others: str) -> Any:
    """Rank 0 among others that could not load, and why."""
    return SimpleNamespace(
        run_on_main=lambda action, patient: action(), gather=lambda value: [value, *others]
    )


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(downstream, "load_tasks", lambda names, folder: {"tasks": {}})
    return SimpleNamespace(eos_id=0)


def test_off_it_loads_nothing(tokenizer: Any) -> None:
    assert load_downstream(EvalConfig(), tokenizer, 8, world()) is None


def test_what_one_rank_cannot_load_refuses_all(tokenizer: Any) -> None:
    config = EvalConfig(downstream=5)
    loaded = load_downstream(config, tokenizer, 8, world(""))
    assert loaded is not None and loaded.tasks == {"tasks": {}} and loaded.every == 5
    with pytest.raises(UserError, match="no network on node 2"):
        load_downstream(config, tokenizer, 8, world("no network on node 2"))
