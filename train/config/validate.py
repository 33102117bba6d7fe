"""Whether a configuration can run: ranges, and the choices that must agree with each other."""

from __future__ import annotations

import dataclasses
import math

from train.config import DataConfig, DecayConfig, ModelConfig, OptimConfig, TrainConfig
from train.config.tokenizer_name import PREFIX, check_name
from train.errors import UserError


def validate(config: TrainConfig) -> None:
    """Check ranges and agreements before anything is built.

    Raises:
        UserError: the key, its value and what it should be.
    """
    _finite(config)
    _require(
        bool(config.name.strip()) and not set(config.name) & set("/\\"),
        "name",
        config.name,
        "a folder name: not empty, no slash",
    )
    _require(
        bool(config.resume.strip()),
        "resume",
        config.resume,
        "auto, never or the path of a checkpoint",
    )
    _model(config.model)
    _data(config.data)
    _optim(config.optim)
    _decay(config.decay)
    _run(config)
    _positive("deepspeed.timeout_minutes", config.deepspeed.timeout_minutes)
    _require(
        bool(config.deepspeed.config),
        "deepspeed.config",
        config.deepspeed.config,
        "the path of a JSON such as ds_configs/zero3.json",
    )


def accumulation_steps(config: TrainConfig, world_size: int) -> int:
    """Micro batches per optimizer step on each rank.

    Raises:
        UserError: run.global_batch is no multiple of run.micro_batch x world_size; the message
            names batches that are.
    """
    if world_size < 1:
        raise UserError(f"world size is {world_size}; it must be at least 1")
    batch = config.run.global_batch
    micro = config.run.micro_batch
    rows = micro * world_size
    if batch % rows == 0:
        return batch // rows
    below = batch // rows * rows
    above = (batch // rows + 1) * rows
    nearest = f"{below} or {above}" if below else str(above)
    micros = [
        size
        for size in range(min(micro, batch // world_size), 0, -1)
        if batch % (size * world_size) == 0
    ]
    smaller = f", or --run.micro_batch {micros[0]}" if micros else ""
    raise UserError(
        f"run.global_batch is {batch}, which is no multiple of run.micro_batch x world size = "
        f"{micro} x {world_size} = {rows}; "
        f"set --run.global_batch {nearest}{smaller}"
    )


def _model(model: ModelConfig) -> None:
    for key in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_layers",
        "num_heads",
        "rms_norm_eps",
        "rope_theta",
        "init_std",
    ):
        _positive(f"model.{key}", getattr(model, key))
    heads = model.num_heads
    width = model.hidden_size
    shared = model.num_kv_heads
    _require(
        width % heads == 0, "model.hidden_size", width, f"a multiple of model.num_heads = {heads}"
    )
    # Rotary embeddings turn coordinates in pairs.
    _require(
        width // heads % 2 == 0,
        "model.hidden_size",
        width,
        f"an even number per head, and {width} / {heads} is {width // heads}",
    )
    _at_least("model.num_kv_heads", shared, 0)
    _require(
        not shared or heads % shared == 0,
        "model.num_kv_heads",
        shared,
        f"0 or a divisor of model.num_heads = {heads}",
    )


def _data(data: DataConfig) -> None:
    _at_least("data.sequence_length", data.sequence_length, 2)
    for key in ("max_documents", "max_row_bytes", "workers"):
        _at_least(f"data.{key}", getattr(data, key), 0)
    if data.tokenizer.startswith(PREFIX):
        check_name(data.tokenizer)
    _require(
        0 < data.validation_fraction <= 0.5,
        "data.validation_fraction",
        data.validation_fraction,
        "in (0, 0.5]",
    )
    _require(
        0 <= data.max_bad_fraction <= 1, "data.max_bad_fraction", data.max_bad_fraction, "in [0, 1]"
    )
    _require(bool(data.directory), "data.directory", data.directory, "a folder")
    if data.mixture:
        _mixture(data)
        return
    if data.source == "files" and not data.files:
        raise UserError(
            "data.source is files, and data.files is empty; set --data.files to paths or globs of "
            "the text"
        )
    if data.source != "files" and (data.files or data.validation_files):
        key = "data.files" if data.files else "data.validation_files"
        raise UserError(
            f"{key} is set, and data.source is {data.source}, which does not read it; set "
            "--data.source files"
        )


def _mixture(data: DataConfig) -> None:
    if data.source != "files":
        raise UserError(
            f"data.mixture is set, and data.source is {data.source}, which does not read it; set "
            "--data.source files"
        )
    for key in ("files", "validation_files"):
        if getattr(data, key):
            raise UserError(
                f"data.{key} is set, and so is data.mixture, whose sources have their own; leave "
                f"data.{key} out"
            )
    names = [source.name for source in data.mixture]
    for at, source in enumerate(data.mixture):
        _require(bool(source.name.strip()), f"data.mixture[{at}].name", source.name, "a name")
        _require(
            names.count(source.name) == 1,
            f"data.mixture[{at}].name",
            source.name,
            "unlike the other sources' names",
        )
        _require(
            bool(source.files),
            f"data.mixture: files of {source.name}",
            source.files,
            "paths or globs of its text",
        )
        _require(
            0 < source.weight < math.inf,
            f"data.mixture: weight of {source.name}",
            source.weight,
            "a finite number greater than 0",
        )
    from train.config.shares import whole_shares  # not above: --help should not wait for numpy

    whole_shares([source.weight for source in data.mixture])


def _optim(optim: OptimConfig) -> None:
    _positive("optim.lr", optim.lr)
    _positive("optim.eps", optim.eps)
    for key in ("beta1", "beta2"):
        _require(0 <= getattr(optim, key) < 1, f"optim.{key}", getattr(optim, key), "in [0, 1)")
    for key in ("weight_decay", "grad_clip", "warmup_steps"):
        _at_least(f"optim.{key}", getattr(optim, key), 0)
    _require(0 <= optim.min_lr_ratio <= 1, "optim.min_lr_ratio", optim.min_lr_ratio, "in [0, 1]")
    _require(
        0 < optim.wsd_decay_share <= 1, "optim.wsd_decay_share", optim.wsd_decay_share, "in (0, 1]"
    )


def _decay(decay: DecayConfig) -> None:
    _at_least("decay.interval", decay.interval, 1)
    _at_least("decay.s1", decay.s1, 0)
    _at_least("decay.awd_scale", decay.awd_scale, 0)
    _require(decay.s1 <= decay.s2, "decay.s1", decay.s1, f"at most decay.s2 = {decay.s2}")


def _run(config: TrainConfig) -> None:
    run = config.run
    warmup = config.optim.warmup_steps
    for key in ("steps", "global_batch", "micro_batch"):
        _at_least(f"run.{key}", getattr(run, key), 1)
    for key in ("init_seed", "data_seed"):
        _at_least(f"run.{key}", getattr(run, key), -1)
    for key in ("seed", "max_hours", "max_skipped_steps", "spike_sd"):
        _at_least(f"run.{key}", getattr(run, key), 0)
    _require(
        run.micro_batch <= run.global_batch,
        "run.micro_batch",
        run.micro_batch,
        f"at most run.global_batch = {run.global_batch}",
    )
    if warmup > run.steps:
        raise UserError(
            f"optim.warmup_steps is {warmup}, more than run.steps = {run.steps}; set "
            f"--optim.warmup_steps {run.steps // 10}"
        )
    _at_least("eval.every", config.eval.every, 1)
    _at_least("eval.tokens", config.eval.tokens, 0)
    _at_least("eval.micro_batch", config.eval.micro_batch, 0)
    _at_least("eval.published_batch", config.eval.published_batch, 1)
    _at_least("checkpoint.every", config.checkpoint.every, 0)
    _at_least("checkpoint.keep", config.checkpoint.keep, 0)
    _at_least("checkpoint.keep_every", config.checkpoint.keep_every, 0)
    _at_least("checkpoint.max_failures", config.checkpoint.max_failures, 1)
    every = config.checkpoint.every
    keep_every = config.checkpoint.keep_every
    _require(
        not every or keep_every % every == 0,
        "checkpoint.keep_every",
        keep_every,
        f"a multiple of checkpoint.every = {every}",
    )
    _at_least("log.every", config.log.every, 1)
    _at_least("log.profile_from", config.log.profile_from, 0)
    _at_least("log.profile_steps", config.log.profile_steps, 1)
    if not isinstance(config.log.peak_tflops, str):  # "auto"
        _positive("log.peak_tflops", config.log.peak_tflops)


def _finite(config: TrainConfig) -> None:
    """Infinity and NaN pass most comparisons, or fail them with a confusing message."""
    for section in (field.name for field in dataclasses.fields(config)):
        value = getattr(config, section)
        for field in dataclasses.fields(value) if dataclasses.is_dataclass(value) else ():
            number = getattr(value, field.name)
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"{section}.{field.name} is {number}; it must be a finite number")


def _require(condition: bool, key: str, value: object, expected: str) -> None:
    if not condition:
        raise UserError(f"{key} is {value!r}; it must be {expected}")


def _positive(key: str, value: float) -> None:
    _require(value > 0, key, value, "greater than 0")


def _at_least(key: str, value: float, minimum: float) -> None:
    _require(value >= minimum, key, value, f"at least {minimum}")
