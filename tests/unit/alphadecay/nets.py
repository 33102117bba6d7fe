"""Small models with gradients that a step number fixes."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Embedding(11, 20)
        self.up = nn.Linear(20, 48)
        self.down = nn.Linear(48, 20)
        self.norm = nn.LayerNorm(20)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.norm(self.down(torch.tanh(self.up(self.embed(ids)))))


def gradients(model: nn.Module, step: int) -> None:
    ids = torch.randint(0, 11, (8,), generator=torch.Generator().manual_seed(step))
    model.zero_grad()
    model(ids).square().mul(torch.arange(20.0)).mean().backward()


class Plain(nn.Module):
    """Three matrices without biases, and a norm where asked for."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Linear(24, 96, bias=False)
        self.down = nn.Linear(96, 24, bias=False)
        self.mix = nn.Linear(24, 24, bias=False)
        if norm:
            self.norm = nn.LayerNorm(24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(self.down(torch.tanh(self.up(x))))


def shrinkage(model: nn.Module, *optimizers: Any) -> dict[str, float]:
    """What a step on zero gradients leaves of every parameter, by name."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    return {
        name: float((p.detach() / before[name]).nanmean()) for name, p in model.named_parameters()
    }
