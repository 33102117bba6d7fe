"""The base decay that decay.base auto stands for, once it is known how often the text is read."""

from __future__ import annotations

from dataclasses import replace

from alphadecay.policy.timescale import averaged_share, timescale_decay
from train import checkpoint
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.run_folder import CHECKPOINTS
from train.errors import UserError
from train.models.build import count_parameters, model_on_meta
from train.tasks.language_modelling.passes import passes_over_text


def settle_base(config: TrainConfig, world: World) -> TrainConfig:
    """Return the configuration with a number for its base decay, of text that is prepared.

    Collective.

    Raises:
        UserError: the text is not where it was prepared.
    """
    if config.decay.base == "given":
        return config
    found = world.run_on_main(lambda: choose_base(config))
    if found is None:
        raise UserError("decay.base is auto, and the prepared text is gone; start again")
    settled, sentence = found
    if world.is_main:
        print(sentence, flush=True)
    return settled


def choose_base(config: TrainConfig) -> tuple[TrainConfig, str] | None:
    """Return the configuration with optim.weight_decay in the place of auto, and why in a sentence.

    None while the text is not prepared. A run that goes on keeps the base decay it was begun with,
    whatever its steps are now.
    """
    passes = passes_over_text(config)
    if passes is None:
        return None
    model = model_on_meta(config.model, config.positions)
    per_parameter = config.positions_of_run / count_parameters(model)
    lr, steps = config.optim.lr, config.run.steps
    base = timescale_decay(lr, steps, per_parameter, passes)
    chosen = _with_base(config, float(f"{base:.3g}"))
    sentence = (
        f"decay.base auto: the base decay is {chosen.optim.weight_decay:g}, the root of "
        f"{passes:.3g} passes over the text / (learning rate {lr:g} x {steps:,} steps x "
        f"{averaged_share(per_parameter):.3g}), the last being the share of the run to average "
        f"over at {per_parameter:.3g} tokens a parameter (arXiv 2505.13738)"
    )
    begun = _begun_with(chosen)
    if begun is None or begun == chosen.optim.weight_decay:
        return chosen, sentence
    return _with_base(config, begun), f"{sentence}; the run was begun with {begun:g} and keeps it"


def _with_base(config: TrainConfig, base: float) -> TrainConfig:
    return replace(config, optim=replace(config.optim, weight_decay=base))


def _begun_with(config: TrainConfig) -> float | None:
    """Return the base decay of the run that this one goes on from; None where there is none, or it
    was given.
    """
    resume = checkpoint.how_to_resume(config, lambda _: None)
    found = checkpoint.peek(resume, config.folder / CHECKPOINTS)
    if found is None or found.manifest.get("decay", {}).get("base") != "auto":
        return None
    return float(found.manifest["optimizer"]["weight_decay"])
