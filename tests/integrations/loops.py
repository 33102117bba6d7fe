"""A small language model, three ways to optimize it, and the factor that every weight is owed.

The oracle of all tests here: where gradients are zero AdamW's and Muon's updates are zero, so that
a step multiplies each weight by 1 - lr * decay and does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay import AdamW, AlphaDecay
from alphadecay.modules import bare_name

VOCABULARY = 40
WIDTH = 24
MATRICES = ("up.weight", "down.weight", "mix.weight")
# a factor is told from 1 by 1e-3 and more; float32 rounds it by 6e-8
TOLERANCE = 1e-6


class Net(nn.Module):
    """An embedding, three linear layers, a norm and a head; the same at every start."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        # biases start at 0, where no decay would show
        for bias in (self.up.bias, self.down.bias, self.mix.bias, self.norm.bias):
            nn.init.normal_(bias)

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids [rows, length] -> logits [rows, length, VOCABULARY]."""
        hidden = self.down(nn.functional.gelu(self.up(self.embed(input_ids))))
        return self.lm_head(self.norm(self.mix(hidden)))


def tokens(step: int = 0, rows: int = 4) -> Tensor:
    """Return token ids [rows, 8] of a step."""
    generator = torch.Generator().manual_seed(step)
    return torch.randint(VOCABULARY, (rows, 8), generator=generator)


def loss_of(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Return the mean cross-entropy of reproducing the tokens."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), input_ids.flatten())


@dataclass(frozen=True)
class Rule:
    """How a weight is stepped: learning rate and the weight decay of its group."""

    lr: float
    weight_decay: float


ADAMW = Rule(1e-2, 0.3)
MUON = Rule(2e-2, 0.1)


def is_matrix(name: str) -> bool:
    """Whether a parameter is one that Muon is for: a linear weight that is not the head."""
    return name.endswith(MATRICES)


def stock(model: nn.Module) -> list[torch.optim.Optimizer]:
    """torch's AdamW for everything."""
    return [
        torch.optim.AdamW(model.parameters(), lr=ADAMW.lr, weight_decay=ADAMW.weight_decay),
    ]


def ours(model: nn.Module) -> list[torch.optim.Optimizer]:
    """The library's AdamW for everything."""
    return [AdamW(model.parameters(), lr=ADAMW.lr, weight_decay=ADAMW.weight_decay)]


def muon(model: nn.Module) -> list[torch.optim.Optimizer]:
    """torch's Muon for the matrices, AdamW for the rest."""
    named = dict(model.named_parameters())
    matrices = [parameter for name, parameter in named.items() if is_matrix(name)]
    rest = [parameter for name, parameter in named.items() if not is_matrix(name)]
    return [
        torch.optim.Muon(matrices, lr=MUON.lr, weight_decay=MUON.weight_decay),
        torch.optim.AdamW(rest, lr=ADAMW.lr, weight_decay=ADAMW.weight_decay),
    ]


OPTIMIZERS: dict[str, Callable[[nn.Module], list[torch.optim.Optimizer]]] = {
    "stock": stock,
    "ours": ours,
    "muon": muon,
}


def rule_of(name: str, kind: str) -> Rule:
    """Return the rule that steps a parameter under an entry of OPTIMIZERS."""
    if kind == "muon" and is_matrix(name):
        return MUON
    return ADAMW


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of every weight by its bare name; of shards, the local ones."""
    return {
        bare_name(name): local(parameter).detach().clone()
        for name, parameter in model.named_parameters()
    }


def local(parameter: Tensor) -> Tensor:
    """Return this rank's part of a weight."""
    to_local: Any = getattr(parameter, "to_local", None)
    return parameter if to_local is None else to_local()


def expected_factors(
    decay: AlphaDecay, names: Iterable[str], kind: str, scale: float = 1.0
) -> dict[str, float]:
    """Return what a step on zero gradients multiplies each weight by.

    A module has 1 - lr * its own decay, a norm or a bias 1, and everything else, the embedding and
    the head, what its group says.

    Args:
        scale: by what a schedule has multiplied the groups' weight decay.
    """
    factors = {}
    for name in names:
        rule = rule_of(name, kind)
        weight_decay = rule.weight_decay * scale
        if name in decay.weight_decays:
            weight_decay = decay.weight_decays[name]
        elif name.endswith("bias") or "norm" in name:
            weight_decay = 0.0
        factors[name] = 1.0 - rule.lr * weight_decay
    return factors


def worst(
    before: dict[str, Tensor], after: dict[str, Tensor], factors: dict[str, float]
) -> tuple[float, str]:
    """Return the largest relative error of a weight after the step, and whose it is."""
    errors = []
    for name, weight in before.items():
        owed = weight.double() * factors[name]
        error = (after[name].double() - owed).abs() / weight.double().abs().clamp_min(1e-30)
        errors.append((float(error.max()) if error.numel() else 0.0, name))
    return max(errors)


def check_zero_gradient_step(
    model: nn.Module, decay: AlphaDecay, step: Callable[[], Any], kind: str
) -> None:
    """Take a step whose gradients are zero, and compare every weight with what it is owed."""
    assert_three_decays(decay, kind)
    before = snapshot(model)
    factors = expected_factors(decay, before, kind)
    step()
    error, name = worst(before, snapshot(model), factors)
    assert error <= TOLERANCE, (name, error)


def assert_three_decays(decay: AlphaDecay, kind: str) -> None:
    """Every matrix has a decay of its own, from s1 to s2 times its group's."""
    names = sorted(name for name in decay.weight_decays if is_matrix(name))
    assert [name.split(".", 1)[-1] if name.count(".") > 1 else name for name in names] == sorted(
        MATRICES
    )
    base = rule_of("up.weight", kind).weight_decay
    ratios = sorted(decay.weight_decays[name] / base for name in names)
    assert len(decay.weight_decays) == len(MATRICES)
    assert abs(ratios[0] - 0.67) < 1e-6 < ratios[1] - ratios[0]
    assert abs(ratios[2] - 5.0) < 1e-5 < ratios[2] - ratios[1]


def zero_loss(model: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a loss on which every weight has a gradient, and all of them are zero."""
    return model(tokens()).sum() * 0.0


def train(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    decay: AlphaDecay,
    steps: int,
    first: int = 0,
) -> list[bool]:
    """Train in the plainest of loops; return at which steps the decays were refreshed."""
    refreshed = []
    for step in range(first, first + steps):
        input_ids = tokens(step)
        loss_of(model(input_ids), input_ids).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        refreshed.append(decay.step())
    return refreshed
