"""Builds the controller of decay.method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alphadecay import AlphaDecay, AlphaDecayConfig
from alphadecay.baselines.fixed_norms import FixedNorms
from alphadecay.baselines.gradient_decay import GradientDecay
from alphadecay.baselines.uniform import bind_uniform
from train.config import TrainConfig
from train.config.decay import METHODS, Family
from train.config.optim import DECOUPLED
from train.engines.protocol import Engine
from train.errors import UserError

Decay = AlphaDecay | GradientDecay | FixedNorms


def spectral_options(config: TrainConfig) -> dict[str, Any]:
    """Return the keywords of AlphaDecay that the decay section stands for."""
    section = config.decay
    options: dict[str, Any] = {
        "interval": section.interval,
        "s1": section.s1,
        "s2": section.s2,
        "tail": section.tail,
        "method": section.estimator,
        "assign": section.assign,
        "spread": section.spread,
        "compat": section.compat or None,
        "seed": section.seed,
        "cautious": section.cautious,
        "towards": section.towards,
        "ratios": {entry.modules: entry.ratio for entry in section.ratios} or None,
        "drives": section.drives,
        "lr_s1": section.lr_s1,
        "lr_s2": section.lr_s2,
        "lr_ends": section.lr_ends,
        "lr_ramp": section.lr_ramp,
        "lr_until": round(section.lr_until * config.run.steps),
    }
    return options | dict(METHODS[section.method].options)


def check_method(config: TrainConfig) -> None:
    """Check that the method can work with the other choices, before a model is built.

    Raises:
        UserError: it cannot; the message says why.
    """
    name = config.decay.method
    method = METHODS[name]
    if config.decay.ratios and name != "fixed_ratio":
        raise UserError(
            f"decay.ratios is set, and decay.method is {name}, which does not read it; set "
            "--decay.method fixed_ratio"
        )
    if config.decay.drives != "decay" and method.family != "spectral":
        raise UserError(
            f"decay.drives is {config.decay.drives}, and decay.method {name} measures no alpha "
            "that could set a learning rate; set --decay.method alphadecay, or one of those that "
            "compare with it"
        )
    _check_base(config)
    _check_amount(config)
    needs_base = method.scales_base and config.decay.drives != "lr"
    if needs_base and _is_zero(config):
        raise UserError(
            f"decay.method {name} multiplies optim.weight_decay, which is 0; give the base "
            "decay, or --decay.method none"
        )
    if method.family == "spectral":
        try:
            AlphaDecayConfig(**spectral_options(config))
        except ValueError as error:
            raise UserError(f"decay.method {name}: {error}") from error


def _is_zero(config: TrainConfig) -> bool:
    return config.decay.base == "given" and config.optim.weight_decay == 0


def _check_base(config: TrainConfig) -> None:
    """Refuse decay.base auto where the rule says nothing."""
    if config.decay.base == "given":
        return
    fault = ""
    if not METHODS[config.decay.method].decays:
        fault = f"decay.method is {config.decay.method}, which decays nothing; leave it out"
    elif config.optim.name != "adamw":
        fault = (
            f"the rule is of adamw, and optim.name is {config.optim.name}; give "
            "optim.weight_decay, with --decay.base given"
        )
    elif config.task != "language_modelling":
        fault = (
            f"the rule was fitted to language models, and task is {config.task}; give "
            "optim.weight_decay, with --decay.base given"
        )
    elif config.data.start_early:
        fault = (
            "how often the text is read is not known before all of it is prepared; leave "
            "data.start_early out, or give optim.weight_decay, with --decay.base given"
        )
    if fault:
        raise UserError(f"decay.base is auto, and {fault}")


def _check_amount(config: TrainConfig) -> None:
    """Refuse a schedule or caution that has nothing to act on, or not what its paper does."""
    decay = config.decay
    chosen = [] if decay.schedule == "constant" else [f"decay.schedule is {decay.schedule}"]
    chosen += ["decay.cautious is set"] if decay.cautious else []
    chosen += ["decay.towards is start"] if decay.towards == "start" else []
    if not chosen:
        return
    if not METHODS[decay.method].decays or _is_zero(config):
        raise UserError(
            f"{chosen[0]}, and nothing decays: decay.method is {decay.method}, optim.weight_decay "
            f"{config.optim.weight_decay:g}; leave it out, or give a decay"
        )
    name = config.optim.name
    if decay.cautious and name not in DECOUPLED:
        raise UserError(
            f"decay.cautious compares decay with the optimizer's own step, and optim.name {name} "
            f"has its decay, an L2 penalty, inside it; set --optim.name {name}w"
        )
    if decay.towards == "start" and (decay.cautious or name not in DECOUPLED):
        other = f"optim.name {name} adds an L2 penalty to the gradients; set --optim.name {name}w"
        if decay.cautious:
            other = "decay.cautious asks about steps away from zero; leave one of them out"
        raise UserError(f"decay.towards start moves weights to where the run began, and {other}")
    if decay.schedule == "lr" and name == "adam":
        raise UserError(
            "decay.schedule lr has lr times decay go as the learning rate squared, and the L2 "
            "penalty of optim.name adam is not lr times decay; set --optim.name adamw"
        )


def build_decay(config: TrainConfig, engine: Engine) -> Decay | None:
    """Build the method's controller; uniform and none have none. Collective.

    Norm gains are not decayed, whatever the method; with decay.compat published they are, whatever
    the method.

    Args:
        engine: what holds the model and its optimizer.

    Raises:
        UserError: the method cannot work on this engine or with these settings.
    """
    name = config.decay.method
    try:
        return _BUILDERS[METHODS[name].family](config, engine)
    except ValueError as error:
        raise UserError(
            f"decay.method {name} cannot work on this run ({config.deepspeed.config}): {error}"
        ) from error


def _spectral(config: TrainConfig, engine: Engine) -> Decay | None:
    return AlphaDecay(engine.handle, engine.optimizer, **spectral_options(config))


def _gradients(config: TrainConfig, engine: Engine) -> Decay | None:
    section = config.decay
    return GradientDecay(
        engine.handle,
        engine.optimizer,
        **METHODS[section.method].options,
        interval=section.interval,
        awd_scale=section.awd_scale,
        s1=section.s1,
        s2=section.s2,
        compat=section.compat or None,
        cautious=section.cautious,
        towards=section.towards,
    )


def _norms(config: TrainConfig, engine: Engine) -> Decay | None:
    section = config.decay
    return FixedNorms(
        engine.handle,
        engine.optimizer,
        **METHODS[section.method].options,
        free_steps=round(section.free_share * config.run.steps),
        scale=section.hyperball_scale,
    )


def _uniform(config: TrainConfig, engine: Engine) -> Decay | None:
    published = config.decay.compat == "published"
    cautious = config.decay.cautious
    towards = config.decay.towards
    own = published and not cautious and towards == "zero"  # the optimizer's own decay does
    if config.optim.weight_decay and not own:
        bind_uniform(
            engine.handle,
            engine.optimizer,
            published=published,
            cautious=cautious,
            towards=towards,
        )
    return None


def _none(config: TrainConfig, engine: Engine) -> Decay | None:
    return None


_BUILDERS: dict[Family, Callable[[TrainConfig, Engine], Decay | None]] = {
    "spectral": _spectral,
    "gradients": _gradients,
    "norms": _norms,
    "uniform": _uniform,
    "none": _none,
}
