"""How an optimizer is given a learning rate for each module: known, tried on a small twin, or
refused.
"""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from alphadecay.optim.decay_kind import make_twin
from alphadecay.optim.fragments import REST, Fragments
from alphadecay.optim.hooks import StepHook
from alphadecay.optim.rates import ModuleRates
from alphadecay.sharding.base import Span

# torch's that update each element by itself, and make their state at the first step or before
_BY_ELEMENT = frozenset(
    {"Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD"}
)
_DIVIDED = ("torch", "alphadecay")  # libraries whose optimizers keep nothing in their groups
# whose updates are the rate times something
_PROPORTIONAL = ("apex", "bitsandbytes", "deepspeed", "torchtitan")
_RATIO = 3.0
_LR = 1e-2
_STEPS = 3
_TOLERANCE = 1e-3  # of the effect, for what rounds the weights otherwise


def rates_for(optimizer: Optimizer, fragments: Fragments) -> ModuleRates:
    """Return what gives the optimizer's steps a rate for each module.

    Raises:
        ValueError: its update is not proportional to its learning rate, and it would have to be.
    """
    library = inspect.unwrap(type(optimizer).step).__module__.partition(".")[0]
    names = {kind.__name__ for kind in type(optimizer).__mro__}
    divides = library in _DIVIDED
    rates = ModuleRates(divides, not names.isdisjoint(_BY_ELEMENT))
    whole = divides and all(len(bound.cuts) < 2 for bound in fragments.bounds.values())
    views = all(rates.takes_views(bound) for bound in fragments.bounds.values())
    if not (whole or views or library in _PROPORTIONAL or _is_proportional(optimizer)):
        raise ValueError(
            f"{type(optimizer).__name__} does not update weights in proportion to its learning "
            "rate, so that one for each module cannot be had of it; use AdamW, or leave the "
            'learning rate to it with drives="decay"'
        )
    return rates


def _is_proportional(optimizer: Optimizer) -> bool:
    """Step small twins: one at a higher rate, one whose steps are multiplied.

    Raises:
        ValueError: a twin cannot be made or stepped.
    """
    try:
        plain = _stepped(optimizer, 1.0, None)
        faster = _stepped(optimizer, _RATIO, None)
        multiplied = _stepped(optimizer, 1.0, _RATIO)
    except Exception as error:
        raise ValueError(
            f"whether {type(optimizer).__name__} updates weights in proportion to its learning "
            f"rate is not known, and trying it on a small weight failed ({type(error).__name__}: "
            f'{error}); leave the learning rate to it with drives="decay"'
        ) from error
    effect = (faster - plain).abs().max()
    return bool(effect > 0 and (faster - multiplied).abs().max() <= _TOLERANCE * effect)


def _stepped(optimizer: Optimizer, rate: float, ratio: float | None) -> Tensor:
    """Return a small weight after a twin's steps on gradients that do not depend on it."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 8, generator=generator))
    twin = make_twin(optimizer, optimizer.param_groups[0], weight, 0.0)
    for group in twin.param_groups:
        group["lr"] = rate * _LR
    if ratio is not None:
        fragments = Fragments([], [Span(weight, 0, weight.numel(), weight, 0, 0)])
        fragments.rates = ModuleRates(divides=False, by_element=False)
        fragments.rates.ratios = {REST: ratio}
        StepHook(twin, fragments, decoupled=True)
    for _ in range(_STEPS):
        weight.grad = torch.randn(8, 8, generator=generator)
        twin.step()
    return weight.detach()
