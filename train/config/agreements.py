"""Finds what is wrong with the values of a configuration, alone and beside each other."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.config import ARCHITECTURES, DataConfig, ModelConfig, TrainConfig
from train.config.decay_agreements import decay_disagreements
from train.config.ranges import explain, ranges_of
from train.config.regimes import regime_disagreements
from train.config.run import AUTO
from train.config.shares import NEGLIGIBLE, is_negligible
from train.config.tokenizer_name import MOVING, PREFIX, fault_of
from train.config.wrong import Wrong, must_be

_PATHS = (
    "output_dir",
    "resume",
    "images.train",
    "images.validation",
    "data.directory",
    "data.repository",
    "data.tokenizer",
    "model.pretrained",
    "sentences.repository",
    "sentences.tokenizer",
    "deepspeed.config",
)
_PATTERN = re.compile(r"[*?\[\]]")  # of Python's glob
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]\w*")


def out_of_range(section: Any, prefix: str = "") -> Iterator[Wrong]:
    """Yield each number outside the range on its field, in sections and entries of lists too."""
    ranges = ranges_of(type(section))
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        key = prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from out_of_range(value, f"{key}.")
        elif isinstance(value, tuple):
            for at, entry in enumerate(value):
                if dataclasses.is_dataclass(entry):
                    yield from out_of_range(entry, f"{key}[{at}].")
        elif wanted := explain(value, ranges.get(field.name)):
            yield must_be(key, value, wanted)


def unusable_texts(config: TrainConfig) -> Iterator[Wrong]:
    """Yield each text that cannot be what it should name."""
    if not config.name.strip() or set(config.name) & set("/\\"):
        yield must_be("name", config.name, "a folder name: not empty, no slash")
    if not config.resume.strip():
        yield must_be("resume", config.resume, "auto, never or the path of a checkpoint")
    if not config.data.directory:
        yield must_be("data.directory", config.data.directory, "a folder")
    if not config.deepspeed.config:
        wanted = "auto, or the path of a JSON such as ds_configs/zero3.json"
        yield must_be("deepspeed.config", config.deepspeed.config, wanted)
    for key in _PATHS:
        text = _value(config, key)
        variable = _VARIABLE.search(text)
        if variable:
            fault = (
                f"; {variable[0]} is not replaced here, only by a shell: write the path itself, "
                f"or give --{key} on the command line"
            )
            yield Wrong(key, repr(text), fault)
    yield from _patterns(config)
    yield from _entries(config.data)


def disagreements(config: TrainConfig) -> Iterator[Wrong]:
    """Yield each choice that cannot go with another."""
    yield from _architecture(config)
    yield from _heads(config.model)
    yield from _images(config)
    yield from regime_disagreements(config)
    yield from _sources(config.data)
    yield from _hub(config.data)
    yield from _tokenizer(config.data)
    yield from decay_disagreements(config)
    yield from _schedule(config)
    yield from _probe(config)
    yield from _batches(config)
    yield from _early(config)


def _patterns(config: TrainConfig) -> Iterator[Wrong]:
    """Yield each folder of checkpoints that DeepSpeed would take for a pattern, and not find."""
    texts = {"output_dir" if config.output_dir else "name": str(config.folder)}
    texts["resume"] = config.resume
    for key, text in texts.items():
        found = _PATTERN.search(text)
        if found:
            fault = (
                f", and checkpoints below {found[0]!r} cannot be loaded, for DeepSpeed takes it as "
                "a part of a pattern; choose a path without * ? [ ]"
            )
            yield Wrong(key, repr(text), fault)


def _entries(data: DataConfig) -> Iterator[Wrong]:
    names = [source.name for source in data.mixture]
    for at, source in enumerate(data.mixture):
        key = f"data.mixture[{at}]"
        if not source.name.strip():
            yield must_be(f"{key}.name", source.name, "a name")
        elif names.count(source.name) > 1:
            yield must_be(f"{key}.name", source.name, "unlike the other sources' names")
        if not source.files:
            yield must_be(f"{key}.files", source.files, "paths or globs of its text")


def _architecture(config: TrainConfig) -> Iterator[Wrong]:
    fitting = ARCHITECTURES[config.task]
    if config.model.architecture not in fitting:
        wanted = f"one for the task {config.task}: {' or '.join(fitting)}"
        yield must_be("model.architecture", config.model.architecture, wanted, "task")


def _heads(model: ModelConfig) -> Iterator[Wrong]:
    heads = model.num_heads
    width = model.hidden_size
    shared = model.num_kv_heads
    key = "model.hidden_size"
    others = ("model.num_heads",)
    if heads < 1:
        return
    if width % heads:
        yield must_be(key, width, f"a multiple of model.num_heads = {heads}", *others)
    elif width // heads % 2:  # rotary embeddings turn coordinates in pairs
        per_head = f"an even number per head, and {width} / {heads} is {width // heads}"
        yield must_be(key, width, per_head, *others)
    if shared > 0 and heads % shared:
        wanted = f"0 or a divisor of model.num_heads = {heads}"
        yield must_be("model.num_kv_heads", shared, wanted, *others)


def _images(config: TrainConfig) -> Iterator[Wrong]:
    model = config.model
    if model.architecture != "vit":
        return
    if model.image_size % model.patch_size:
        wanted = f"a divisor of model.image_size = {model.image_size}"
        yield must_be("model.patch_size", model.patch_size, wanted, "model.image_size")
    images = config.images
    for key in ("train", "validation"):
        if images.source == "drawn" and getattr(images, key):
            fault = ", and images.source is drawn, which reads no folder; leave it out"
            yield Wrong(f"images.{key}", repr(getattr(images, key)), fault, ("images.source",))
        elif images.source != "drawn" and not getattr(images, key):
            fault = f", and images.source is {images.source}; set it to a folder of images"
            yield Wrong(f"images.{key}", "empty", fault, ("images.source",))


def _sources(data: DataConfig) -> Iterator[Wrong]:
    lists = ("files", "validation_files")
    given = [key for key in lists if getattr(data, key)]
    if data.mixture:
        yield from _mixture(data, given)
    elif data.source == "files" and not data.files:
        fault = ", and data.files is empty; set --data.files to paths or globs of the text"
        yield Wrong("data.source", data.source, fault, ("data.files", "data.mixture"))
    elif data.source != "files" and given:
        yield _not_read(f"data.{given[0]}", data)


def _hub(data: DataConfig) -> Iterator[Wrong]:
    revision = data.revision
    if data.source != "c4":
        for key in ("repository", "revision"):
            if getattr(data, key) != getattr(DataConfig, key):
                fault = f", and data.source is {data.source}, which is not on the hub; leave it out"
                yield Wrong(f"data.{key}", repr(getattr(data, key)), fault, ("data.source",))
    elif revision in MOVING:
        fault = ", a branch, which moves; name a commit or tag, or leave it empty"
        yield Wrong("data.revision", repr(revision), fault)
    elif revision and Path(data.repository).expanduser().is_dir():
        fault = f", and data.repository is the folder {data.repository}; leave it out"
        yield Wrong("data.revision", repr(revision), fault, ("data.repository",))


def _mixture(data: DataConfig, given: list[str]) -> Iterator[Wrong]:
    if data.source != "files":
        yield _not_read("data.mixture", data)
    for key in given:
        fault = f", and so is data.mixture, whose sources have their own; leave data.{key} out"
        yield Wrong(f"data.{key}", "set", fault, ("data.mixture",))
    weights = [source.weight for source in data.mixture]
    smallest = min(range(len(weights)), key=weights.__getitem__)
    if 0 < weights[smallest] < max(weights) < math.inf and is_negligible(weights):
        yield Wrong(f"data.mixture[{smallest}].weight", f"{weights[smallest]:g}", NEGLIGIBLE)


def _not_read(key: str, data: DataConfig) -> Wrong:
    fault = f", and data.source is {data.source}, which does not read it; set --data.source files"
    return Wrong(key, "set", fault, ("data.source",))


def _tokenizer(data: DataConfig) -> Iterator[Wrong]:
    fault = fault_of(data.tokenizer) if data.tokenizer.startswith(PREFIX) else ""
    if fault:
        yield Wrong("data.tokenizer", repr(data.tokenizer), fault)


def _schedule(config: TrainConfig) -> Iterator[Wrong]:
    warmup = config.optim.warmup_steps
    steps = config.run.steps
    if warmup > steps:
        fault = f", more than run.steps = {steps}; set --optim.warmup_steps {steps // 10}"
        yield Wrong("optim.warmup_steps", str(warmup), fault, ("run.steps",))
    if config.optim.schedule == "range" and config.optim.min_lr_ratio == 0:
        wanted = "above 0, for the rate of schedule range rises from it by a factor a step"
        yield must_be("optim.min_lr_ratio", 0.0, wanted, "optim.schedule")
    every = config.checkpoint.every
    keep_every = config.checkpoint.keep_every
    if every > 0 and keep_every % every:
        wanted = f"a multiple of checkpoint.every = {every}"
        yield must_be("checkpoint.keep_every", keep_every, wanted, "checkpoint.every")


def _probe(config: TrainConfig) -> Iterator[Wrong]:
    step = config.eval.probe_step
    if step > config.run.steps:
        most = f"a step of the run, which has run.steps = {config.run.steps}"
        yield must_be("eval.probe_step", step, most, "run.steps")
    elif step and config.task != "language_modelling":
        wanted = f"0 with the task {config.task}: what is followed is text"
        yield must_be("eval.probe_step", step, wanted, "task")
    elif step and config.data.start_early:
        wanted = "0 with data.start_early: the rows that are followed have to be there at the start"
        yield must_be("eval.probe_step", step, wanted, "data.start_early")


def _batches(config: TrainConfig) -> Iterator[Wrong]:
    micro = config.run.micro_batch
    batch = config.run.global_batch
    if micro != AUTO and micro > batch:
        wanted = f"at most run.global_batch = {batch}"
        yield must_be("run.micro_batch", micro, wanted, "run.global_batch")


def _early(config: TrainConfig) -> Iterator[Wrong]:
    data = config.data
    if not data.start_early:
        return
    if data.mixture:
        fault = (
            ", and data.mixture needs rows of every source from the first step on; leave "
            "data.start_early out, and prepare before: python -m train prepare"
        )
        yield Wrong("data.start_early", "true", fault, ("data.mixture",))
    elif data.source != "c4" and not data.validation_files and not config.eval.tokens:
        fault = (
            ", all documents that are held out, and with data.start_early these are known only at "
            "the end of the corpus; give a number of tokens, or --data.validation_files"
        )
        yield Wrong("eval.tokens", "0", fault, ("data.start_early",))


def _value(config: TrainConfig, key: str) -> str:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return str(value)
