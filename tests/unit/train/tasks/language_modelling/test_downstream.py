"""Tasks are loaded by every rank, or the run is refused on every rank."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from train.cluster.distributed import World
from train.config import EvalConfig
from train.errors import UserError
from train.tasks.language_modelling import downstream
from train.tasks.language_modelling.downstream import load_downstream


class Among(World):
    """Rank 0 of more ranks, as which it hears why they could not load."""

    others: tuple[str, ...] = ()

    def gather(self, value: Any) -> list[Any]:
        return [value, *self.others]


def world(*others: str) -> World:
    """Rank 0 among others that could not load, and why."""
    one = Among(0, 0, 1, torch.device("cpu"))
    object.__setattr__(one, "others", others)  # it is frozen
    return one


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
