"""decay.method: what each name makes of the library."""

from __future__ import annotations

from typing import Any

from alphadecay import AlphaDecay, AlphaDecayConfig
from alphadecay.baselines.gradient_decay import GradientDecay
from alphadecay.baselines.uniform import bind_uniform
from train.config import TrainConfig
from train.config.optim import CONTROLS, FROM_GRADIENTS, NORMS, SPECTRAL
from train.errors import UserError

Decay = AlphaDecay | GradientDecay


def choices(config: TrainConfig) -> dict[str, Any]:
    """The keywords of AlphaDecay that the recipe's decay section stands for."""
    d = config.decay
    return {
        "interval": d.interval,
        "s1": d.s1,
        "s2": d.s2,
        "tail": d.tail,
        "method": "farms" if d.method == "farms" else d.estimator,
        "assign": d.assign,
        "score": d.method if d.method in NORMS else "alpha",
        "spread": d.spread,
        "compat": d.compat or None,
        "control": d.method if d.method in CONTROLS else None,
        "seed": d.seed,
        "ratios": {entry.modules: entry.ratio for entry in d.ratios} or None,
    }


def check(config: TrainConfig) -> None:
    """Whether the method can work with the other choices, before a model is built.

    Raises:
        UserError: it cannot; the message says why.
    """
    method = config.decay.method
    if config.decay.ratios and method != "fixed_ratio":
        raise UserError(
            f"decay.ratios is set, and decay.method is {method}, which does not read it; set "
            "--decay.method fixed_ratio"
        )
    if method in SPECTRAL + FROM_GRADIENTS and config.optim.weight_decay == 0:
        raise UserError(
            f"decay.method {method} multiplies optim.weight_decay, which is 0; give the base "
            "decay, or --decay.method none"
        )
    if method in SPECTRAL:
        try:
            AlphaDecayConfig(**choices(config))
        except ValueError as error:
            raise UserError(f"decay.method {method}: {error}") from error


def build_decay(config: TrainConfig, engine: Any) -> Decay | None:
    """The method's controller; uniform and none have none. Collective.

    Norm gains are not decayed, whatever the method; with decay.compat published they are, whatever
    the method.

    Raises:
        UserError: the method cannot work on this engine or with these settings.
    """
    d = config.decay
    try:
        if d.method in FROM_GRADIENTS:
            rule: Any = d.method
            compat = d.compat or None
            return GradientDecay(
                engine,
                rule=rule,
                interval=d.interval,
                awd_scale=d.awd_scale,
                s1=d.s1,
                s2=d.s2,
                compat=compat,
            )
        if d.method == "uniform" and config.optim.weight_decay and not d.compat:
            bind_uniform(engine)
        return AlphaDecay(engine, **choices(config)) if d.method in SPECTRAL else None
    except ValueError as error:
        raise UserError(
            f"decay.method {d.method} cannot work on this run ({config.deepspeed.config}): {error}"
        ) from error
