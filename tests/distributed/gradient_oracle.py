"""The rules that decay by gradients, from the formulas of their papers, on an unsharded model."""

from __future__ import annotations

import math

import torch
from torch import nn

from tests.distributed import reference
from train.models.build import build_model

STEPS = 4
INTERVAL = 2
ROWS = 4
ETA = 0.1
RULES = ("awd", "adadecay", "adadecay_parameters", "gradient_norm")


class Oracle:
    """torch's Adam without decay; before each step the rule's decay is applied by hand, tensor by
    tensor.
    """

    def __init__(
        self, model: nn.Module, modules: dict[str, nn.Parameter], rule: str, decoupled: bool
    ) -> None:
        self.model = model
        self.modules = modules
        self.rule = rule
        self.decoupled = decoupled
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=reference.LR, betas=(0.9, 0.95), eps=1e-8
        )
        self.steps = 0
        self.previous = None
        self.decays: dict[str, float] = dict.fromkeys(modules, ETA)

    def step(self) -> None:
        self.steps += 1
        named = {name: p for name, p in self.model.named_parameters() if p.dim() > 1}
        every = {name: torch.tensor(self.decays.get(name, ETA)) for name in named}
        if self.rule == "awd":
            g, w = (
                math.sqrt(sum(float(x.double().square().sum()) for x in xs)) for xs in self._pairs()
            )
            now = 100 * ETA * g / w
            self.previous = now if self.previous is None else 0.1 * self.previous + 0.9 * now
            every = dict.fromkeys(named, torch.tensor(self.previous))
        if self.rule == "adadecay" and self.steps % INTERVAL == 0:
            self._standardise()
            every |= {name: torch.tensor(self.decays[name]) for name in self.modules}
        if self.rule == "gradient_norm" and self.steps % INTERVAL == 0:
            norms = {name: float(p.grad.double().norm()) for name, p in self.modules.items()}
            low = min(norms.values())
            high = max(norms.values())
            self.decays = {
                name: ETA * (0.67 + (norm - low) / (high - low) * (5 - 0.67))
                for name, norm in norms.items()
            }
            every |= {name: torch.tensor(self.decays[name]) for name in self.modules}
        if self.rule == "adadecay_parameters":
            for name, p in self.modules.items():
                size = p.grad.abs().double()
                z = (size - size.mean()) / size.std(correction=0)
                every[name] = (ETA * 2 / (1 + torch.exp(-4 * z))).float()
        with torch.no_grad():
            for name, p in named.items():
                if self.decoupled:
                    p.mul_(1 - reference.LR * every[name])
                else:
                    p.grad.add_(every[name] * p)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _pairs(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        parameters = list(self.model.parameters())
        return [p.grad for p in parameters], [p.detach() for p in parameters]

    def _standardise(self) -> None:
        layers: dict[str, dict[str, float]] = {}
        for name, p in self.modules.items():
            layers.setdefault(name.split(".self_attn")[0].split(".mlp")[0], {})[name] = float(
                p.grad.double().norm()
            )
        for norms in layers.values():
            values = torch.tensor(list(norms.values()), dtype=torch.float64)
            z = (values - values.mean()) / values.std(correction=0)
            self.decays |= dict(
                zip(norms, (ETA * 2 / (1 + torch.exp(-4 * z))).tolist(), strict=True)
            )


def llama_oracle(rule: str, decoupled: bool) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    oracle = Oracle(model, reference.layer_weights(model), rule, decoupled)
    for step in range(1, STEPS + 1):
        batch = reference.tokens(step, ROWS)
        model(input_ids=batch, labels=batch).loss.backward()
        oracle.step()
    return {name: p.detach() for name, p in model.named_parameters()}, oracle.decays
