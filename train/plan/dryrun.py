"""What a run would be, without running it: `python train/pretrain.py --config RECIPE --dry-run
[--world-size N]`.

Nothing is built, downloaded or written. Every mistake that can be seen from here is told at once,
not only the first.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from alphadecay.modules import WeightModule, find_modules
from alphadecay.owners import Plan, module_cost, plan_owners
from alphadecay.spectral import estimate
from alphadecay.sharding.refusals import refuse_configuration
from train import checkpoint
from train.cli import dump_config
from train.config import TrainConfig
from train.config.optim import FROM_GRADIENTS, SPECTRAL
from train.data.dataset import data_identity
from train.data.memmap import TokenFile
from train.data.prepare import find_prepared
from train.engine import load_ds_config
from train.errors import UserError
from train.methods import check
from train.model import check_machine, llama_config
from train.plan.activations import count_activations
from train.plan.memory import predict_memory, sharding_of
from train.telemetry.sinks import check_sinks
from train.validation import accumulation_steps
from train.world import World

T = TypeVar("T")
GB = 1e9


@dataclass
class DryRun:
    """Args:
    config: the run.
    world_size: ranks it would have.
    lines: the report.
    problems: what would stop it, each with its way out.
    """

    config: TrainConfig
    world_size: int
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def attempt(self, action: Callable[[], T]) -> T | None:
        """The action's result; what is wrong is noted instead of raised."""
        try:
            return action()
        except (UserError, ValueError) as error:
            self.problems.append(" ".join(str(error).split()))
            return None

    def run(self) -> None:
        """Fills the report."""
        c = self.config
        accumulation = self.attempt(lambda: accumulation_steps(c, self.world_size))
        ds_config = (
            self.attempt(lambda: load_ds_config(c, accumulation or 1, self.world_size))
            if accumulation
            else None
        )
        self.attempt(lambda: check_machine(c.model))
        self.attempt(lambda: check_sinks(c))
        model = _meta_model(c)
        self.lines += ["", *_parameters(model)]
        if ds_config is not None:
            self.lines += ["", *_memory(c, model, ds_config, self.world_size)]
        prepared = self.attempt(lambda: find_prepared(c.data, c.model.vocab_size))
        self.lines += ["", *(self.attempt(lambda: list(_tokens(c, prepared))) or [])]
        if c.decay.method in SPECTRAL:
            self.lines += ["", *_refreshes(c, model, self.world_size)]
        if c.decay.method in SPECTRAL + FROM_GRADIENTS:
            self.attempt(lambda: _method(c, ds_config or {}))
        self.lines += ["", *self._checkpoints(model, ds_config or {}, prepared)]

    def _checkpoints(
        self,
        model: torch.nn.Module,
        ds_config: Mapping[str, Any],
        prepared: tuple[Path, bool] | None,
    ) -> Iterator[str]:
        c = self.config
        stage = _stage(ds_config)
        folder = c.folder
        size = _checkpoint_bytes(model, ds_config)
        count = (
            c.checkpoint.keep or max(1, c.run.steps // max(1, c.checkpoint.every or c.run.steps))
        ) + 1
        yield f"Checkpoints in {folder}: {size / GB:,.2f} GB each, up to {count * size / GB:,.2f} GB at once"
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not os.access(nearest, os.W_OK) or not nearest.is_dir():
            self.problems.append(
                f"output_dir: {nearest} cannot be written; choose another --output_dir"
            )
        free = shutil.disk_usage(nearest).free
        if free < count * size:
            self.problems.append(
                f"output_dir: {nearest} has {free / GB:,.1f} GB free, checkpoints take up to "
                f"{count * size / GB:,.1f} GB; "
                "choose another --output_dir or a smaller --checkpoint.keep"
            )
        found = _newest(c, folder)
        if found is None:
            yield "  starts from step 0"
            return
        yield f"  goes on from {found.path}, step {found.step} of {c.run.steps} (its hashes are checked when the run starts)"
        if prepared is not None and prepared[1]:
            world = World(0, 0, self.world_size, torch.device("cpu"))
            who = checkpoint.identity(c, world, stage, data_identity([prepared[0]], c.data))
            self.attempt(lambda: checkpoint.check_identity(found, who, c.checkpoint.convert))


def dry_run(config: TrainConfig, world_size: int) -> tuple[str, list[str]]:
    """The report, and the problems that would stop the run."""
    dry = DryRun(config, world_size)
    dry.run()
    text = dump_config(config) + "\n".join(dry.lines)
    return text, dry.problems


def _meta_model(c: TrainConfig) -> torch.nn.Module:
    from dataclasses import replace

    from transformers import LlamaForCausalLM

    with torch.device("meta"):  # shapes without memory
        return LlamaForCausalLM(
            llama_config(replace(c.model, attention="sdpa"), c.data.sequence_length)
        )


def _stage(ds_config: Mapping[str, Any]) -> int:
    return int(ds_config.get("zero_optimization", {}).get("stage", 0))


def _parameters(model: torch.nn.Module) -> Iterator[str]:
    parts = {
        "embedding": "embed_tokens",
        "attention": "self_attn",
        "MLP": "mlp",
        "head": "lm_head",
        "norms": "norm",
    }
    counts = dict.fromkeys(parts, 0)
    for name, parameter in model.named_parameters():
        counts[next(part for part, word in parts.items() if word in name)] += parameter.numel()
    yield f"Parameters {sum(counts.values()) / 1e6:,.2f}M"
    yield from (f"  {part:<12}{count / 1e6:>12,.2f}M" for part, count in counts.items())


def _memory(
    c: TrainConfig, model: torch.nn.Module, ds_config: Mapping[str, Any], world_size: int
) -> Iterator[str]:
    sharding = sharding_of(ds_config, world_size)
    held = predict_memory([tuple(p.shape) for p in model.parameters()], sharding)
    bf16 = sharding.itemsize == 2
    activations = count_activations(c.model, c.run.micro_batch, c.data.sequence_length, bf16)
    head = 0 if c.model.fused_cross_entropy else activations.head
    parts = {
        "weights": (held.weights, sharding.offload_parameters),
        "gradients": (held.gradients, sharding.offload_optimizer),
        "optimizer": (held.optimizer, sharding.offload_optimizer),
        "activations": (activations.layers, False),
        "logits, loss": (head, False),
    }
    if c.decay.method in SPECTRAL:
        parts["refresh"] = (
            _refresh_bytes(find_modules(model), sharding.itemsize, sharding.stage),
            False,
        )
    where = f"ZeRO-{sharding.stage} on {world_size} ranks, {'bf16' if bf16 else 'float32'}, micro batch {c.run.micro_batch}"
    yield f"Memory per rank, {where}; the refresh has no activations beside it"
    yield from (
        f"  {part:<14}{size / GB:>10,.3f} GB{'  in host memory' if host else ''}"
        for part, (size, host) in parts.items()
    )
    device = [
        size
        for part, (size, host) in parts.items()
        if not host and part not in ("activations", "logits, loss", "refresh")
    ]
    peak = sum(device) + max(activations.layers + head, parts.get("refresh", (0, False))[0])
    yield f"  {'largest sum':<14}{peak / GB:>10,.3f} GB, without DeepSpeed's reduction buffers, the allocator's and the libraries' own"


def _refresh_bytes(modules: list[WeightModule], itemsize: int, stage: int) -> int:
    """The largest module on its owner: gathered (ZeRO-3), in float32, its Gram, and the solver's
    copy.
    """
    sides = [(max(m.shape), min(m.shape)) for m in modules]
    return max(
        (itemsize if stage == 3 else 0) * long * short + 4 * long * short + 3 * 4 * short * short
        for long, short in sides
    )


def _tokens(c: TrainConfig, prepared: tuple[Path, bool] | None) -> Iterator[str]:
    tokens = c.run.steps * c.run.global_batch * c.data.sequence_length
    yield f"Tokens {tokens:,}: {c.run.steps:,} steps of {c.run.global_batch} rows of {c.data.sequence_length}"
    if prepared is None:
        return
    folder, there = prepared
    if not there:
        yield f"  {folder} is not prepared yet: python -m train.data.prepare with this recipe, or the run does it first"
        return
    held = TokenFile(folder, "train").meta.train.tokens
    yield f"  {held:,} prepared in {folder}: {tokens / held:,.2f} epochs"


def _refreshes(c: TrainConfig, model: torch.nn.Module, world_size: int) -> Iterator[str]:
    """The owner plan, and what a refresh costs on this machine: the costliest matrix is timed, the
    rest is in proportion.
    """
    shapes = {
        module.name: module.shape
        for module in find_modules(model, published=c.decay.compat == "published")
    }
    plan: Plan = plan_owners(shapes, world_size)
    yield plan.describe()
    shape = max(shapes.values(), key=module_cost)
    weight_MN = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    started = time.perf_counter()
    estimate(weight_MN, method=c.decay.estimator)
    seconds = (time.perf_counter() - started) * max(plan.loads) / module_cost(shape)
    refreshes = c.run.steps // c.decay.interval + 1
    yield f"  a refresh takes about {seconds:,.2f} s on CPUs like this one ({shape[0]}x{shape[1]} timed), a GPU less; {refreshes:,} of them"


def _method(c: TrainConfig, ds_config: Mapping[str, Any]) -> None:
    """What the method would refuse.

    Raises:
        UserError: its reason.
    """
    check(c)
    try:
        refuse_configuration(ds_config)
    except ValueError as error:
        raise UserError(
            f"decay.method {c.decay.method} cannot work on this run ({c.deepspeed.config}): {error}"
        ) from error


def _checkpoint_bytes(model: torch.nn.Module, ds_config: Mapping[str, Any]) -> int:
    """Weights as computed with, masters where they are another copy, and both moments, over all
    ranks.
    """
    elements = sum(parameter.numel() for parameter in model.parameters())
    bf16 = bool(ds_config.get("bf16", {}).get("enabled"))
    masters = 4 if bf16 or _stage(ds_config) else 0
    return elements * ((2 if bf16 else 4) + masters + 8)


def _newest(c: TrainConfig, folder: Path) -> checkpoint.Checkpoint | None:
    """The checkpoint the run would look at first, by its manifest alone."""
    if c.resume == "never":
        return None
    paths = (
        sorted((folder / checkpoint.FOLDER).glob("step-*"), reverse=True)
        if c.resume == "auto"
        else [Path(c.resume)]
    )
    for path in paths:
        try:
            manifest = json.loads((path / checkpoint.MANIFEST).read_text())
            return checkpoint.Checkpoint(path, manifest)
        except (OSError, ValueError):
            continue
    return None
