"""What a run would be, without running it: `python train/pretrain.py --config RECIPE --dry-run
[--world-size N]`.

Nothing is built, downloaded or written. Every mistake that can be seen from here is told at once,
not only the first.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from alphadecay.modules import WeightModule, find_modules
from alphadecay.owners import Plan, module_cost, plan_owners
from alphadecay.sharding.refusals import refuse_configuration
from alphadecay.spectral import estimate
from train import checkpoint
from train.checkpoint.space import bytes_needed
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.command_line import dump_config
from train.config.decay import METHODS
from train.config.run_folder import CHECKPOINTS
from train.config.validate import accumulation_steps
from train.data.loading.dataset import data_identity
from train.data.loading.memmap import TokenFile
from train.data.preparing.corpora import PreparedCorpus, find_all
from train.engines.ds_config import computes_in_bf16, load_ds_config, zero_stage
from train.errors import UserError
from train.loop.decay_methods import check_method
from train.models import spec_of
from train.models.build import check_machine
from train.planning.activations import count_activations
from train.planning.memory import predict_memory, sharding_of
from train.telemetry.sinks import check_sinks

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
        self.lines += ["", *_parameters(c, model)]
        if ds_config is not None:
            self.lines += ["", *_memory(c, model, ds_config, self.world_size)]
        vocabulary = spec_of(c.model).vocabulary(c.model)
        prepared = self.attempt(lambda: find_all(c.data, vocabulary)) or []
        self.lines += ["", *(self.attempt(lambda: list(_tokens(c, prepared))) or [])]
        if METHODS[c.decay.method].family == "spectral":
            self.lines += ["", *_refreshes(c, model, self.world_size)]
        if METHODS[c.decay.method].scales_base:
            self.attempt(lambda: _method(c, ds_config or {}))
        self.lines += ["", *self._checkpoints(model, ds_config or {}, prepared)]

    def _checkpoints(
        self,
        model: torch.nn.Module,
        ds_config: Mapping[str, Any],
        prepared: list[PreparedCorpus],
    ) -> Iterator[str]:
        c = self.config
        stage = zero_stage(ds_config)
        folder = c.folder
        size = _checkpoint_bytes(model, ds_config, self.world_size)
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
        found = checkpoint.peek(c.resume, folder / CHECKPOINTS)
        if found is None:
            yield "  starts from step 0"
            return
        yield f"  goes on from {found.path}, step {found.step} of {c.run.steps} (its hashes are checked when the run starts)"
        folders = [corpus.folder for corpus in prepared if corpus.ready and corpus.folder]
        if prepared and len(folders) == len(prepared):
            world = World(0, 0, self.world_size, torch.device("cpu"))
            run_identity = checkpoint.identity(c, world, stage, data_identity(folders, c.data))
            self.attempt(
                lambda: checkpoint.check_identity(found, run_identity, c.checkpoint.convert)
            )


def dry_run(config: TrainConfig, world_size: int) -> tuple[str, list[str]]:
    """The report, and the problems that would stop the run."""
    dry = DryRun(config, world_size)
    dry.run()
    text = dump_config(config) + "\n".join(dry.lines)
    return text, dry.problems


def _meta_model(c: TrainConfig) -> torch.nn.Module:
    spec = spec_of(c.model)
    # Shapes without memory; other attention kernels want a GPU and have the same weights.
    with torch.device("meta"):
        return spec.bare(spec.config(replace(c.model, attention="sdpa"), c.data.sequence_length))


def _parameters(c: TrainConfig, model: torch.nn.Module) -> Iterator[str]:
    parts = spec_of(c.model).parts
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
    if METHODS[c.decay.method].family == "spectral":
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


def _tokens(c: TrainConfig, prepared: list[PreparedCorpus]) -> Iterator[str]:
    tokens = c.run.steps * c.run.global_batch * c.data.sequence_length
    yield (
        f"Tokens {tokens:,}: {c.run.steps:,} steps of {c.run.global_batch} rows of "
        f"{c.data.sequence_length}"
    )
    weights = [source.weight for source in c.data.mixture] or [1.0]
    for corpus, weight in zip(prepared, weights, strict=False):
        label = f"{corpus.name}: " if corpus.name else ""
        if corpus.folder is None or not corpus.ready:
            where = corpus.folder or "it"
            yield (
                f"  {label}{where} is not prepared yet: python -m train prepare with this recipe, "
                "or the run does it first"
            )
            continue
        held = TokenFile(corpus.folder, "train").meta.train.tokens
        share = tokens * weight / sum(weights)
        yield f"  {label}{held:,} prepared in {corpus.folder}: {share / held:,.2f} epochs"


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
    check_method(c)
    try:
        refuse_configuration(ds_config)
    except ValueError as error:
        raise UserError(
            f"decay.method {c.decay.method} cannot work on this run ({c.deepspeed.config}): {error}"
        ) from error


def _checkpoint_bytes(model: torch.nn.Module, ds_config: Mapping[str, Any], ranks: int) -> int:
    bf16 = computes_in_bf16(ds_config)
    elements = sum(parameter.numel() for parameter in model.parameters())
    return bytes_needed(elements, 2 if bf16 else 4, bf16 or zero_stage(ds_config) > 0, ranks)
