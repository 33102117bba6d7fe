"""torch's fully_shard (FSDP2) behind the engine protocol: one unit a decoder layer, embedding and
head apart, the model built without any rank holding it whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)

from alphadecay.sharding.base import Span
from alphadecay.sharding.detect import detect
from train.config import TrainConfig
from train.engines.average import WeightAverage
from train.engines.by_name import is_universal, load_by_name
from train.engines.fsdp2_snapshot import PlannedSnapshots
from train.engines.fsdp2_state import read_state, snapshot_state, write_state
from train.engines.optimizer import build_optimizer, set_momentum
from train.engines.precision import resolve_precision
from train.engines.protocol import LogitsOf, WrittenState
from train.engines.snapshot import Snapshot
from train.errors import UserError
from train.models import spec_of
from train.models.build import fill_weights, finish_model, model_on_meta


class Fsdp2Engine:
    """A fully sharded model and its optimizer as the loop sees them.

    The weights are float32 and sharded; a unit's are gathered in the type it computes in, and its
    gradients summed in float32.

    Args:
        module: what fully_shard has cut.
        optimizer: over its shards.
        mesh: the ranks; its last axis shards.
        accumulation: micro batches of a step.
        clip: largest global gradient norm; 0 clips nothing.
        dtype: what it computes in.
        average: of the weights; None keeps none.
    """

    keeps_masters = False  # the weights themselves are float32
    snapshots = True

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        mesh: DeviceMesh,
        accumulation: int,
        clip: float,
        dtype: torch.dtype,
        average: WeightAverage | None = None,
    ) -> None:
        self.handle = module
        self.module = module
        self.optimizer = optimizer
        self.dtype = dtype
        self.average = average
        self.layout = {"engine": "fsdp2"}
        self._snapshots = PlannedSnapshots()
        self._shards = mesh.get_group(mesh.ndim - 1)
        self._meet_on = mesh.device_type  # where the group's collectives take their tensors
        self._accumulation = accumulation
        self._clip = clip
        self._micro_batches = 0
        self._norm = math.nan
        self._applied = False

    def forward(self, inputs: Mapping[str, Tensor]) -> Any:
        """Return what the model makes of a micro batch."""
        assert isinstance(self.module, FSDPModule)
        # Gradients stay whole on a rank until the last micro batch, and are reduced once.
        self.module.set_requires_gradient_sync(self._micro_batches + 1 == self._accumulation)
        return self.module(**inputs)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a micro batch."""
        (loss / self._accumulation).backward()
        self._micro_batches += 1

    @torch.no_grad()
    def step(self) -> None:
        """Clip and update at an accumulation boundary; skip where a gradient is not finite."""
        if self._micro_batches < self._accumulation:
            return
        self._micro_batches = 0
        shards = [_shard(p.grad) for p in self.module.parameters() if p.grad is not None]
        self._norm = self._global_norm(shards)
        self._applied = math.isfinite(self._norm)
        if self._applied:
            scale = self._clip / (self._norm + 1e-6)
            if self._clip and scale < 1:
                torch._foreach_mul_(shards, scale)
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
        self.optimizer.zero_grad()

    def step_was_applied(self) -> bool:
        """Return whether the last boundary updated the weights; alike on all ranks."""
        return self._applied

    def gradient_norm(self) -> float:
        """Return the global gradient norm of the last boundary, before clipping."""
        return self._norm

    def set_learning_rate(self, lr: float) -> None:
        """Set it in every param group."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def set_momentum(self, momentum: float) -> None:
        """Set it in every param group."""
        set_momentum(self.optimizer, momentum)

    def set_weight_decay(self, weight_decay: float) -> None:
        """Set it in every param group; whoever decays reads it at step time."""
        for group in self.optimizer.param_groups:
            group["weight_decay"] = weight_decay

    @contextmanager
    def evaluating(self) -> Iterator[LogitsOf]:
        """Give a function from inputs to logits."""
        self.module.eval()

        def logits_of(inputs: Mapping[str, Tensor]) -> Tensor:
            logits: Tensor = self.module(**inputs).logits
            return logits

        yield logits_of
        self.module.train()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the average in the place of the shards, and take it back."""
        self._swap()
        yield
        self._swap()

    def master_spans(self) -> list[Span]:
        """Return where this rank's float32 shards lie."""
        return [
            Span(s.parameter, 0, _shard(s.tensor).numel(), _shard(s.tensor), 0, s.group)
            for s in self._spans()
        ]

    def write_state(self, folder: Path, client_state: Mapping[str, Any]) -> WrittenState:
        """Write weights, moments and `client_state` into `folder`, each rank its shards."""
        return write_state(self.module, self.optimizer, folder, client_state)

    def snapshot_state(self, folder: Path, client_state: Mapping[str, Any]) -> Snapshot:
        """Take the same, to be written later."""
        return snapshot_state(self.module, self.optimizer, folder, client_state, self._snapshots)

    def read_state(self, folder: Path) -> dict[str, Any]:
        """Load what any number of ranks wrote, or another engine, and return the client state."""
        if not is_universal(folder):
            return read_state(self.module, self.optimizer, folder)
        return load_by_name(folder, self.module, self._spans(), self.optimizer).client_state

    def _spans(self) -> list[Span]:
        """Return what this rank holds of each weight."""
        return list(detect(self.module).sharding.spans(self.optimizer))

    def _swap(self) -> None:
        assert self.average is not None
        self.average.swap()
        for unit in self.module.modules():
            if isinstance(unit, FSDPModule):
                unit.reshard()  # weights that it has still gathered are the others

    def _global_norm(self, shards: list[Tensor]) -> float:
        """Return the 2-norm of all gradients. Collective; one host synchronisation."""
        squares = torch.stack(torch._foreach_norm(shards)).square().sum().to(self._meet_on)
        dist.all_reduce(squares, group=self._shards)
        return math.sqrt(squares.item())


def build_engine(config: TrainConfig, accumulation: int, device: torch.device) -> Fsdp2Engine:
    """Build model, optimizer and engine. Collective.

    Args:
        accumulation: micro batches of a step.
        device: where this rank computes.

    Raises:
        UserError: engine.shard divides no world of this size, or offloading without CUDA.
    """
    mesh = _mesh(config, device)
    bf16 = resolve_precision(config.run.precision) == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    module: Any = model_on_meta(config.model, config.positions)
    _shard_units(config, module, mesh, dtype)
    module.to_empty(device="cpu" if config.engine.cpu_offload else device)
    if config.model.tie_embeddings:
        module.tie_weights()  # to_empty gave each of the two names a tensor of its own
    spec = spec_of(config.model)
    fill_weights(module, config.model, config.run.seed_of_init)
    _round(module.parameters(), dtype)
    spec.restore_buffers(module)
    _move_buffers(module, device)
    finish_model(module, config.model, config.loss.z_loss)
    optimizer = build_optimizer(config, module.parameters())
    clip = config.optim.grad_clip
    average = _average(optimizer, config.optim.ema)
    return Fsdp2Engine(module, optimizer, mesh, accumulation, clip, dtype, average)


@torch.no_grad()
def _round(parameters: Iterable[nn.Parameter], dtype: torch.dtype) -> None:
    """Round weights to what `dtype` can hold: DeepSpeed takes its float32 masters from such ones,
    and a run begins with the same bits under either engine.
    """
    if dtype == torch.float32:
        return
    for parameter in parameters:
        shard = _shard(parameter)
        shard.copy_(shard.to(dtype))


def _move_buffers(module: nn.Module, device: torch.device) -> None:
    """Have buffers where a rank computes, also beside offloaded weights."""
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            setattr(owner, name, buffer.to(device))


def _average(optimizer: torch.optim.Optimizer, decay: float) -> WeightAverage | None:
    groups = {each: group for group in optimizer.param_groups for each in group["params"]}
    return WeightAverage(optimizer, groups, decay) if decay else None


def check_fsdp2(config: TrainConfig, world_size: int, cuda: bool) -> None:
    """Refuse settings of the engine that cannot work on so many ranks.

    Raises:
        UserError: names the key and what would.
    """
    shard = config.engine.shard
    if shard and world_size % shard:
        fitting = [n for n in range(1, world_size + 1) if world_size % n == 0]
        raise UserError(
            f"engine.shard is {shard}, which does not divide {world_size} ranks; set one of "
            f"{', '.join(map(str, fitting))}, or 0 for all"
        )
    if config.engine.cpu_offload and not cuda:
        raise UserError(
            "engine.cpu_offload needs a CUDA GPU, and there is none here; take it out of the recipe"
        )


def _mesh(config: TrainConfig, device: torch.device) -> DeviceMesh:
    ranks = dist.get_world_size()
    check_fsdp2(config, ranks, device.type == "cuda")
    shard = config.engine.shard or ranks
    if shard == ranks:
        return init_device_mesh(device.type, (ranks,), mesh_dim_names=("shard",))
    shape = (ranks // shard, shard)
    return init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))


def _shard_units(
    config: TrainConfig, module: nn.Module, mesh: DeviceMesh, dtype: torch.dtype
) -> None:
    """Cut every decoder layer, the embedding, the head and at last what is left."""
    options: dict[str, Any] = {
        "mesh": mesh,
        "reshard_after_forward": config.engine.reshard_after_forward,
        "mp_policy": MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
        "offload_policy": CPUOffloadPolicy() if config.engine.cpu_offload else OffloadPolicy(),
    }
    spec = spec_of(config.model)
    apart = [] if config.model.tie_embeddings else spec.ends(module)
    for unit in (*spec.layers(module), *apart):
        fully_shard(unit, **options)
    fully_shard(module, **options)


def _shard(tensor: Any) -> Tensor:
    """Return this rank's part of a DTensor, without a collective."""
    local: Tensor = tensor.to_local()
    return local
