"""The engine of a run, in words, from records of every version."""

from __future__ import annotations

from typing import Any

import pytest

from alphadecay.inspect.run.words import engine_words

FSDP2 = {"engine": "fsdp2"}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"engine": "deepspeed", "zero_stage": 0}, "ZeRO-0"),
        ({"engine": "deepspeed", "zero_stage": 1, "engine_shard": 2, "world_size": 4}, "ZeRO-1"),
        ({"zero_stage": 3}, "ZeRO-3"),  # before there was another engine
        (FSDP2 | {"engine_shard": 2, "world_size": 4}, "FSDP2 (HSDP, 2 ranks a copy)"),
        (FSDP2 | {"engine_shard": 1, "world_size": 4}, "FSDP2 (HSDP, 1 rank a copy)"),
        (FSDP2 | {"engine_shard": 4, "world_size": 4}, "FSDP2"),
        (FSDP2 | {"engine_shard": 0, "world_size": 4}, "FSDP2"),  # as engine.shard has it
        (FSDP2 | {"engine_shard": None, "zero_stage": None}, "FSDP2"),
        (FSDP2, "FSDP2"),
        ({"world_size": 4}, ""),
    ],
)
def test_the_engine_is_named(record: dict[str, Any], words: str) -> None:
    assert engine_words(record) == words
