"""What an optimizer does with its weight decay: known, measured on a tiny twin, or refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from alphadecay.optim.cautious import CautiousDecay
from alphadecay.optim.fragments import Fragments
from alphadecay.optim.hooks import StepHook
from alphadecay.optim.starting_weights import StartingWeights
from alphadecay.sharding.base import Span

# library -> class -> whether it shrinks the weights (True) or adds a penalty to the gradients
_KNOWN = {
    "torch": {
        "Adafactor": True,
        "AdamW": True,
        "Muon": True,
        "ASGD": False,
        "Adadelta": False,
        "Adagrad": False,
        "Adam": False,
        "Adamax": False,
        "NAdam": False,
        "RAdam": False,
        "RMSprop": False,
        "SGD": False,
    },
    "deepspeed": {
        "DeepSpeedCPULion": True,
        "FusedLion": True,
        "DeepSpeedCPUAdagrad": False,
    },
    "alphadecay": {"SGDW": True},
    # from its source, for its sharding has no place on a twin: p.mul_(1 - lr * weight_decay)
    "torchtitan": {"DistMuon": True},
}
# those of DeepSpeed and apex whose adam_w_mode says it; apex's LAMB has one too, and is none
_BY_MODE = frozenset({"FusedAdam", "DeepSpeedCPUAdam", "MuonWithAuxAdam"})
# bitsandbytes' update rules; its Adam decays as AdamW does, whatever the class is called
_BITSANDBYTES = {
    "adam": True,
    "ademamix": True,
    "lamb": True,
    "lion": True,
    "adagrad": False,
    "momentum": False,
    "rmsprop": False,
}
# how much of its effect may be missing on a zero gradient and on a random one, where an optimizer
# that decays after its update differs by lr² * decay
_TOLERANCES = (1e-3, 2e-2)
_STEPS = 3
_LR = 1e-2
_DECAY = 0.5
# what a twin takes of a group: options, but not its tensors and what schedulers keep there
_PLAIN = (bool, int, float, str, tuple, list, Tensor, type(None))
_BOOKKEEPING = ("params", "initial_lr", "param_names")
_Maker = Callable[[nn.Parameter, float], Optimizer]  # of a twin, from its weight and its decay


def is_decoupled(optimizer: Optimizer) -> bool:
    """Return True where the optimizer shrinks weights by lr * decay (AdamW), False where it adds an
    L2 penalty to the gradients (Adam).

    Raises:
        ValueError: it does both or neither; the message says what was seen.
    """
    inner = getattr(optimizer, "optim", None)  # ZeroRedundancyOptimizer's, for a share of weights
    if isinstance(inner, Optimizer):
        return is_decoupled(inner)
    known = _known(optimizer)
    return _measured(optimizer) if known is None else known


def refuse_own_rate(optimizer: Optimizer) -> None:
    """Refuse an optimizer that makes its own learning rate, by which its weights would decay.

    Raises:
        ValueError: one of its groups has none.
    """
    if any(group.get("lr", 0.0) is None for group in optimizer.param_groups):
        raise ValueError(
            f"{type(optimizer).__name__} sets its own step size (lr is None), which AlphaDecay "
            "cannot see, and decay is lr * weight_decay: give it a learning rate, as "
            "transformers' Adafactor takes with relative_step=False, scale_parameter=False"
        )


def make_cautious(
    optimizers: Sequence[Any], fragments: Sequence[Fragments], kinds: Sequence[bool]
) -> None:
    """Have every optimizer's decay wait for its step.

    Raises:
        ValueError: one adds its decay to the gradients, so that no step is without it.
    """
    for optimizer, shrinks, part in zip(optimizers, kinds, fragments, strict=True):
        if not shrinks:
            raise ValueError(
                f"cautious decay compares decay with the optimizer's own step, and "
                f"{type(optimizer).__name__} has its decay, an L2 penalty, inside it; use one that "
                "shrinks weights, such as AdamW"
            )
        part.cautious = CautiousDecay()


def keep_starts(
    optimizers: Sequence[Any],
    fragments: Sequence[Fragments],
    kinds: Sequence[bool],
    cautious: bool,
) -> None:
    """Have every optimizer's weights decay towards what they are now.

    Raises:
        ValueError: one adds its decay to the gradients, or decay is cautious as well, which is
            about zero.
    """
    if cautious:
        raise ValueError(
            "cautious decay asks whether a step goes away from zero, and towards 'start' there is "
            "no decay to zero; use one of them"
        )
    for optimizer, shrinks, part in zip(optimizers, kinds, fragments, strict=True):
        if not shrinks:
            raise ValueError(
                f"decay towards the starting weights moves weights, and {type(optimizer).__name__} "
                "adds its decay, an L2 penalty, to the gradients; use one that shrinks weights, "
                "such as AdamW"
            )
        part.start = StartingWeights(part.bounds.values())


def _known(optimizer: Optimizer) -> bool | None:
    """Look the class up whose step() is taken; None for one that is not listed."""
    library = inspect.unwrap(type(optimizer).step).__module__.partition(".")[0]
    names = [kind.__name__ for kind in type(optimizer).__mro__]
    if library == "bitsandbytes":
        return _BITSANDBYTES.get(getattr(optimizer, "optimizer_name", ""))
    if library in ("deepspeed", "apex") and not _BY_MODE.isdisjoint(names):
        return _by_mode(optimizer)
    told = {bool(group.get("decoupled_weight_decay")) for group in optimizer.param_groups}
    if library == "torch" and True in told:
        if len(told) > 1:
            raise ValueError(_two_kinds(optimizer))
        return True
    known = _KNOWN.get(library, {})
    return next((known[name] for name in names if name in known), None)


def _by_mode(optimizer: Any) -> bool:
    muon = any(group.get("use_muon") for group in optimizer.param_groups)
    if muon and not optimizer.adam_w_mode:
        raise ValueError(
            "DeepSpeed's Muon shrinks its matrices, and with adam_w_mode false its Adam adds a "
            "penalty to the gradients instead: "
            "AlphaDecay does one or the other; set adam_w_mode to true"
        )
    return bool(optimizer.adam_w_mode)


def _measured(optimizer: Optimizer) -> bool:
    """Try every decaying group; those of which all options but numbers are alike once."""
    decaying = [group for group in optimizer.param_groups if group.get("weight_decay")]
    unlike: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in decaying or optimizer.param_groups:
        told = [(k, v) for k, v in sorted(group.items()) if isinstance(v, bool | str | None)]
        unlike.setdefault(tuple(each for each in told if "name" not in each[0]), group)
    kinds = {_tried(optimizer, group) for group in unlike.values()}
    if len(kinds) > 1:
        raise ValueError(_two_kinds(optimizer))
    return kinds.pop()


def _two_kinds(optimizer: Optimizer) -> str:
    return (
        f"{type(optimizer).__name__} shrinks the weights of one param group and adds a penalty to "
        "the gradients of another: AlphaDecay does one or the other in an optimizer; give all "
        "groups the same, or make two optimizers of them, AlphaDecay(model, [one, other])"
    )


def _tried(optimizer: Optimizer, group: Mapping[str, Any]) -> bool:
    """Step tiny twins with a group's options: as they are, and with their decay taken over."""
    name = type(optimizer).__name__
    make = partial(make_twin, optimizer, group)
    try:
        for decoupled in (True, False):
            trials = [(tolerance, _random(tolerance)) for tolerance in _TOLERANCES]
            if all(_alike(make, decoupled, *trial) for trial in trials):
                return decoupled
        stock = _stepped(make, _DECAY, None, [torch.zeros(8, 8)])
    except Exception as error:
        raise ValueError(
            f"what {name} does with weight_decay is not known, and trying it on a small weight "
            f"failed ({type(error).__name__}: {error}); if you know, say decoupled=True (shrinks "
            "weights by lr * decay) or decoupled=False (adds decay * weight to gradients)"
        ) from error
    kept = float((stock / _start()).mean())
    raise ValueError(
        f"{name} is not understood: with learning rate {_LR} and weight decay {_DECAY} a step on a "
        f"zero gradient leaves {kept:.6g} of a weight (AdamW: {1 - _LR * _DECAY:.6g}), and neither "
        "that nor an L2 penalty explains its steps; AlphaDecay would decay otherwise than it does. "
        "Use an optimizer that does, or decoupled=True or False where you know better"
    )


def _alike(make: _Maker, decoupled: bool, tolerance: float, gradients: list[Tensor]) -> bool:
    """Whether a twin whose decay is taken over steps as one that decays by itself."""
    plain = _stepped(make, 0.0, None, gradients)
    stock = _stepped(make, _DECAY, None, gradients)
    taken = _stepped(make, _DECAY, decoupled, gradients)
    effect = max(float((stock - plain).abs().max()), float((taken - plain).abs().max()))
    return float((stock - taken).abs().max()) <= tolerance * effect


def _stepped(
    make: _Maker, weight_decay: float, decoupled: bool | None, gradients: list[Tensor]
) -> Tensor:
    """The trial weight after a twin's steps on these gradients.

    Args:
        decoupled: how its decay is taken over; None leaves it to the twin.
    """
    weight = nn.Parameter(_start())
    twin = make(weight, weight_decay)
    if decoupled is not None:
        span = Span(weight, 0, weight.numel(), weight, 0, 0)
        StepHook(twin, Fragments([], [span]), decoupled)
    for gradient in gradients:
        weight.grad = gradient.clone()
        twin.step()
        for group in twin.param_groups:  # some decay by the ratio of this to the first lr
            group["lr"] = group["lr"] and group["lr"] / 2
    return weight.detach()


def make_twin(
    optimizer: Optimizer, group: Mapping[str, Any], weight: nn.Parameter, weight_decay: float
) -> Optimizer:
    """Return another optimizer of the same kind, with a group's options, for one small weight."""
    accepted = inspect.signature(type(optimizer).__init__).parameters
    options: dict[str, Any] = {
        name: value
        for name, value in group.items()
        if isinstance(value, _PLAIN) and name not in _BOOKKEEPING
    }
    options["weight_decay"] = weight_decay
    if options.get("lr") is not None:
        options["lr"] = _LR
    if options.get("capturable"):  # not on a CPU
        options["capturable"] = False
    own = {name: options.pop(name) for name in list(options) if name not in accepted}
    weights: list[Any] = [{"params": [weight], **own}] if own else [weight]
    with redirect_stdout(StringIO()):  # some announce themselves
        twin = type(optimizer)(weights, **options)
    getattr(twin, "train", lambda: None)()  # schedule-free optimizers step in no other mode
    return twin


def _start() -> Tensor:
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(0))


def _random(tolerance: float) -> list[Tensor]:
    """Zero gradients for the first of the tolerances, random ones for the second."""
    if tolerance == _TOLERANCES[0]:
        return [torch.zeros(8, 8)] * _STEPS
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 8, generator=generator) for _ in range(_STEPS)]
