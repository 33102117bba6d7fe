"""Whether optimizers and a model hold the same weights."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from torch import nn

from alphadecay.modules import WeightModule, whole_shape
from alphadecay.optim.fragments import Fragments

_LOG = logging.getLogger("alphadecay")


def refuse_strangers(
    fragments: Sequence[Fragments], model: nn.Module, modules: Sequence[WeightModule]
) -> None:
    """Check that the optimizers and the model hold the same weights, each once.

    Raises:
        ValueError: a module that no optimizer holds or two do, or another model's weight.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = Counter(id(parameter) for part in fragments for parameter in part.parameters)
    for part in fragments:
        for parameter in part.parameters:
            if id(parameter) not in names:
                raise ValueError(
                    f"the optimizer holds a parameter of shape {list(whole_shape(parameter))} that "
                    f"{type(model).__name__} does not have; give the model that was wrapped last, "
                    "and an optimizer of its parameters alone; where one optimizer trains two "
                    "models, nn.ModuleList([one, other])"
                )
    twice = [names[key] for key, count in held.items() if count > 1]
    if twice:
        raise ValueError(f"two optimizers hold {twice[0]}, which would decay twice; keep it in one")
    unowned = sorted(module.name for module in modules if id(module.parameter) not in held)
    if unowned:
        others = f" and {len(unowned) - 1} more" if len(unowned) > 1 else ""
        raise ValueError(
            f"the optimizer does not hold {unowned[0]}{others}; pass all of the model's parameters "
            "to it, or all optimizers, AlphaDecay(model, [muon, adamw])"
        )
    rest = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in held]
    if rest:
        _LOG.warning(
            "%d trainable weights are in no optimizer that AlphaDecay was given, such as %s: what "
            "decays them is not its own",
            len(rest),
            rest[0],
        )
