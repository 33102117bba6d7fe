"""Small models with gradients that a step number fixes."""

from __future__ import annotations

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
