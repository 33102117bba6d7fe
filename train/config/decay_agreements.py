"""Finds what is wrong with the settings of weight decay beside each other."""

from __future__ import annotations

from collections.abc import Iterator

from train.config import TrainConfig
from train.config.decay import METHODS, DecayConfig
from train.config.optim import DECOUPLED
from train.config.wrong import Wrong, must_be


def decay_disagreements(config: TrainConfig) -> Iterator[Wrong]:
    """Yield each choice among them that cannot go with another."""
    decay = config.decay
    if decay.s1 > decay.s2:
        yield must_be("decay.s1", decay.s1, f"at most decay.s2 = {decay.s2}", "decay.s2")
    if decay.lr_s1 > decay.lr_s2:
        most = f"at most decay.lr_s2 = {decay.lr_s2}"
        yield must_be("decay.lr_s1", decay.lr_s1, most, "decay.lr_s2")
    yield from _turned_sign(config)


def _turned_sign(config: TrainConfig) -> Iterator[Wrong]:
    """Yield a base decay that the peak learning rate makes a whole weight or more of."""
    optim = config.optim
    decay = config.decay
    if optim.name not in DECOUPLED or optim.schedule == "range":  # which goes on until it diverges
        return
    if decay.base == "auto" or decay.schedule == "cosine" or not METHODS[decay.method].decays:
        return
    multiple = _largest_multiple(decay)
    share = optim.lr * optim.weight_decay * multiple
    if share >= 1:
        at_most = f" * {multiple:g}" if multiple != 1 else ""
        fault = (
            f", and a step at the peak learning rate would take {optim.lr:g} * "
            f"{optim.weight_decay:g}{at_most} = {share:g} of a weight, which turns its sign; keep "
            "that product below 1"
        )
        others = ("optim.lr", "decay.s2")
        yield Wrong("optim.weight_decay", f"{optim.weight_decay:g}", fault, others)


def _largest_multiple(decay: DecayConfig) -> float:
    """Return the largest multiple of lr * base decay in a method's map; 1 of rules without."""
    method = METHODS[decay.method]
    control = method.options.get("control")
    if method.family != "spectral" or control == "uniform_at_mean":
        return 1.0
    if control == "fixed_ratio":
        return max((each.ratio for each in decay.ratios), default=1.0)
    decay_multiple = decay.s2 if decay.drives != "lr" else 1.0
    rate_multiple = decay.lr_s2 if decay.drives != "decay" else 1.0
    return decay_multiple * rate_multiple
