"""The base decay that decay.base auto stands for, once it is known how often the text is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alphadecay.policy.timescale import averaged_share, timescale_decay
from train import checkpoint
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.run_folder import CHECKPOINTS
from train.data.loading.memmap import read_meta
from train.models.build import count_parameters, model_on_meta


def settle_base(config: TrainConfig, folders: Sequence[Path], world: World) -> TrainConfig:
    """Return the configuration with a number for its base decay. Collective.

    Args:
        folders: the prepared corpora.
    """
    if config.decay.base != "auto":
        return config
    settled, sentence = world.run_on_main(lambda: choose_base(config, folders))
    if world.is_main:
        print(sentence, flush=True)
    return settled


def choose_base(config: TrainConfig, folders: Sequence[Path]) -> tuple[TrainConfig, str]:
    """Return the configuration with optim.weight_decay in the place of auto, and why in a sentence.

    A run that goes on keeps the base decay it was begun with, whatever its steps are now.
    """
    tokens = config.run.steps * config.run.global_batch * config.data.sequence_length
    model = model_on_meta(config.model, config.data.sequence_length)
    per_parameter = tokens / count_parameters(model)
    passes = passes_of(config, tokens, folders)
    optim = config.optim
    base = timescale_decay(optim.lr, config.run.steps, per_parameter, passes)
    chosen = _with_base(config, float(f"{base:.3g}"))
    sentence = (
        f"decay.base auto: the base decay is {chosen.optim.weight_decay:g}, the root of "
        f"{passes:.3g} passes over the text / (learning rate {optim.lr:g} x {config.run.steps:,} "
        f"steps x {averaged_share(per_parameter):.3g}), the last being the share of the run to "
        f"average over at {per_parameter:.3g} tokens a parameter (arXiv 2505.13738)"
    )
    begun = _begun_with(chosen)
    if begun is None or begun == chosen.optim.weight_decay:
        return chosen, sentence
    return _with_base(config, begun), f"{sentence}; the run was begun with {begun:g} and keeps it"


def passes_of(config: TrainConfig, tokens: int, folders: Sequence[Path]) -> float:
    """Return how often the text is read, at least 1: the mean over the tokens of a run that reads
    its sources unequally often.
    """
    weights = [source.weight for source in config.data.mixture] or [1.0]
    passes = 0.0
    for folder, weight in zip(folders, weights, strict=True):
        share = weight / sum(weights)
        passes += share * tokens * share / read_meta(folder).train.tokens
    return max(1.0, passes)


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
