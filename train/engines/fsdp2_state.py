"""What an FSDP2 engine writes: weights and moments by torch.distributed.checkpoint, which reads
them at any number of ranks, and the client state beside them.

Nothing is unpickled but through restricted loaders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemWriter

from alphadecay.inspect.paths import DCP_METADATA
from alphadecay.inspect.sources.dcp import MODEL, RestrictedReader
from train.engines.fsdp2_snapshot import PlannedSnapshots
from train.engines.optimizer import make_moments
from train.engines.protocol import WrittenState
from train.engines.snapshot import Snapshot
from train.errors import UserError

CLIENT_STATE = "client_state.pt"


def write_state(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    client_state: Mapping[str, Any],
) -> WrittenState:
    """Write this rank's shards into `folder`, and on rank 0 the client state. Collective.

    torch.distributed.checkpoint raises on all ranks where one could not write.
    """
    written = WrittenState()
    rank = dist.get_rank()
    if rank == 0:
        written.attempt(folder, lambda: folder.mkdir(parents=True, exist_ok=True))
    # Without an await of the others a rank could write before the folder is there.
    dist.barrier()
    tensors = flat_state(module, optimizer)
    failure = WrittenState()
    failure.attempt(
        folder, lambda: dcp.save(tensors, storage_writer=FileSystemWriter(folder, sync_files=False))
    )
    written.failure = written.failure or failure.failure
    if written.failure is None:
        written.paths += sorted(folder.glob(f"__{rank}_*"))
    if rank == 0:
        written.paths.append(folder / DCP_METADATA)
        path = folder / CLIENT_STATE
        written.save(path, lambda: torch.save(dict(client_state), path))
    return written


def snapshot_state(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    client_state: Mapping[str, Any],
    snapshots: PlannedSnapshots,
) -> Snapshot:
    """Take what `write_state` would write. Collective."""
    snapshot = Snapshot()
    tensors = flat_state(module, optimizer)
    snapshot.attempt(folder, lambda: snapshots.take(tensors, folder, snapshot))
    if dist.get_rank() == 0:
        snapshot.take(folder / CLIENT_STATE, dict(client_state))
    return snapshot


def read_state(module: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> dict[str, Any]:
    """Load every shard of this rank, whatever the ranks that wrote them. Collective.

    Raises:
        UserError: the folder holds no state of this engine, or of another model.
    """
    make_moments(optimizer)
    tensors = flat_state(module, optimizer)
    try:
        dcp.load(tensors, storage_reader=RestrictedReader(folder))
    except dcp.CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise UserError(f"cannot load {folder}: {first}") from error
    state: dict[str, Any] = torch.load(folder / CLIENT_STATE, weights_only=True)
    return state


def flat_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return every tensor of the state by name: model.NAME, and exp_avg.NAME and the like.

    A tied weight is there under its first name.
    """
    named = dict(module.named_parameters())
    tensors: dict[str, Tensor] = {f"{MODEL}{name}": weight for name, weight in named.items()}
    for name, parameter in named.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value
    return tensors
