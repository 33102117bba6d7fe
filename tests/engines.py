"""The smallest engine of the program's protocol: a module and its optimizer in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay.sharding.zero import engine_spans
from train.engines.protocol import Engine, LogitsOf


class PlainEngine:
    """As much of an engine as validation and telemetry ask for."""

    keeps_masters = False
    average = None

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        self.module = module
        self.handle = module
        self.optimizer = optimizer
        self.dtype = next(module.parameters()).dtype
        self.layout: dict[str, Any] = {}

    @contextmanager
    def evaluating(self) -> Iterator[LogitsOf]:
        self.module.eval()
        yield lambda inputs: self.module(**inputs).logits
        self.module.train()

    def master_spans(self) -> list[Any]:
        engine = SimpleNamespace(module=self.module, optimizer=self.optimizer)
        return list(engine_spans(engine, self.optimizer))


def loss_of_text(engine: Engine, tokens_BL: Tensor, labels_BL: Tensor | None = None) -> Tensor:
    """The mean loss of a micro batch of text, which is its own label if no other is given."""
    labels = tokens_BL if labels_BL is None else labels_BL
    loss: Tensor = engine.forward({"input_ids": tokens_BL, "labels": labels}).loss
    return loss
