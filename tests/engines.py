"""The smallest engine of the program's protocol: a module and its optimizer in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay.sharding.zero import engine_spans


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
    def evaluating(self) -> Iterator[Callable[[Tensor], Tensor]]:
        self.module.eval()
        yield lambda tokens: self.module(input_ids=tokens).logits
        self.module.train()

    def master_spans(self) -> list[Any]:
        engine = SimpleNamespace(module=self.module, optimizer=self.optimizer)
        return list(engine_spans(engine, self.optimizer))
