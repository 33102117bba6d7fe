"""The oracle: an unsharded run on stock torch AdamW or Adam with one param group per module,
spectra by float64 SVD.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from train.config import ModelConfig
from train.models.build import build_model

TINY = ModelConfig(vocab_size=67, hidden_size=36, intermediate_size=52, num_layers=2, num_heads=2)
LENGTH = 12
LR = 2e-3
WEIGHT_DECAY = 0.1
S1 = 0.67
S2 = 5.0


def tokens(step: int, rows: int) -> Tensor:
    """The global batch of a step, int64 [rows, LENGTH]."""
    return torch.randint(
        0, TINY.vocab_size, (rows, LENGTH), generator=torch.Generator().manual_seed(1000 + step)
    )


def alpha_by_svd(weight: Tensor) -> float:
    """1 + k / sum ln(lambda_i / lambda_(n-k)) over the k = n // 2 largest, in float64."""
    eigenvalues = torch.linalg.svdvals(weight.detach().double()).square().flip(0)
    n = len(eigenvalues)
    k = n // 2
    return float(1 + k / torch.log(eigenvalues[n - k :] / eigenvalues[n - k - 1]).sum())


def linear_decays(weights: dict[str, Tensor]) -> dict[str, float]:
    """The paper's linear map of the alphas of `weights`."""
    alphas = {name: alpha_by_svd(weight) for name, weight in weights.items()}
    low = min(alphas.values())
    high = max(alphas.values())
    return {
        name: WEIGHT_DECAY * ((a - low) / (high - low) * (S2 - S1) + S1)
        for name, a in alphas.items()
    }


def layer_weights(model: nn.Module) -> dict[str, Tensor]:
    """q, k, v, o, gate, up and down of every layer, by name."""
    return {name: p for name, p in model.named_parameters() if "layers" in name and p.dim() == 2}


def train_unsharded(
    kind: type[torch.optim.Optimizer],
    steps: int,
    rows: int,
    interval: int,
    clip: float,
    module_wise: bool = True,
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """Final weights, and the decays of every refresh, applied only if `module_wise`."""
    model = build_model(TINY, LENGTH, seed=7)
    modules = layer_weights(model)
    groups = [
        {"params": [p], "name": name, "weight_decay": 0.0 if p.dim() < 2 else WEIGHT_DECAY}
        for name, p in model.named_parameters()
    ]
    optimizer = kind(groups, lr=LR, betas=(0.9, 0.95), eps=1e-8)
    history = []
    for step in range(1, steps + 1):
        if step == 1 or step % interval == 0:
            history.append(linear_decays(modules))
            for group in optimizer.param_groups if module_wise else []:
                group["weight_decay"] = history[-1].get(group["name"], group["weight_decay"])
        batch = tokens(step, rows)
        model(input_ids=batch, labels=batch).loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    return {name: p.detach().clone() for name, p in model.named_parameters()}, history
