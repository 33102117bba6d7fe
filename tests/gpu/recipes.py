"""The recipes that are measured: as shipped, or in a rehearsal with a model for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from tests.bench.corpus import DOCUMENTS, PIECES, small_tokenizer
from tests.gpu.cases import Session
from train.config import ModelConfig, TrainConfig
from train.config.command_line import load_config

RECIPES = {size: f"llama_{size}" for size in ("60m", "130m", "350m", "1b")}
LENGTH = 256
_TOY = {
    "model.vocab_size": PIECES,
    "model.hidden_size": 64,
    "model.intermediate_size": 172,
    "model.num_layers": 2,
    "model.num_heads": 4,
    "run.global_batch": 16,
    "data.sequence_length": 32,
}


@cache
def model_of(size: str) -> ModelConfig:
    """Return the model of a recipe, with plain kernels."""
    model = load_config(["--config", RECIPES[size]]).model
    return replace(model, compile=False, fused_cross_entropy=False)


def configuration(size: str, session: Session, changes: Mapping[str, Any]) -> TrainConfig:
    """Return a recipe as `arguments` changes it."""
    return load_config(arguments(size, session, changes))


def arguments(size: str, session: Session, changes: Mapping[str, Any]) -> list[str]:
    """Return the words for a recipe on the small corpus, with nothing saved on the way.

    Args:
        changes: further keys and values.
    """
    values: dict[str, Any] = {
        "config": RECIPES[size],
        "optim.warmup_steps": 1,
        "eval.tokens": 1,
        "checkpoint.every": 0,
        "log.progress": "off",
        "data.source": "stdlib",
        "data.max_documents": DOCUMENTS,
        "data.directory": session.folder / "data",
        "data.tokenizer": small_tokenizer(session.folder),
        "resume": "never",
    }
    values |= (_TOY if session.toy else {}) | dict(changes)
    return [f"--{key}={value}" for key, value in values.items()]
