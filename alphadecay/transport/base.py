"""The protocol of a transport, and the small collectives all of them share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from alphadecay.modules import WeightModule

# rounds[r][rank]: the module that `rank` receives in round r, or None.
Rounds = Sequence[Sequence[WeightModule | None]]


@contextmanager
def collective(what: str) -> Iterator[None]:
    """Names the collective in the error of one that fails, so that a dead peer does not read like a
    bug here.
    """
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"AlphaDecay: {what} failed, most likely because another rank died or is late; its "
            f"error: {error}"
        ) from error


class Transport(ABC):
    """Brings whole matrices to their owner ranks.

    Args:
        group: the process group that the weights are replicated or sharded on; None for a single
            process.
        replica_group: the ranks that hold the same shards of other copies of the weights; None
            where there is one copy.
    """

    def __init__(
        self, group: dist.ProcessGroup | None, replica_group: dist.ProcessGroup | None = None
    ) -> None:
        self.group = group
        self._groups = [
            g for g in (group, replica_group) if g is not None and dist.get_world_size(g) > 1
        ]
        self.shard = dist.get_rank(group) if group is not None else 0
        self.shards = dist.get_world_size(group) if group is not None else 1
        copy = dist.get_rank(replica_group) if replica_group is not None else 0
        copies = dist.get_world_size(replica_group) if replica_group is not None else 1
        self.rank = copy * self.shards + self.shard
        self.world_size = copies * self.shards

    @abstractmethod
    def deliver(self, rounds: Rounds) -> Iterator[tuple[WeightModule, Tensor]]:
        """This rank's matrices, round by round: (module, weight_MN).

        Collective: every rank of the group exhausts it, with the same rounds.
        """

    @property
    def device(self) -> torch.device:
        """Where this group's collectives run."""
        if self.group is not None and "nccl" in dist.get_backend(self.group):
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("cpu")

    def share(self, table: Tensor) -> Tensor:
        """Sum of the ranks' tables.

        Each row is filled by one rank and zero elsewhere, so the sum is exact.

        Collective: every rank of the group calls this, in the same order.

        Args:
            table: float64, [modules, fields], any device.
        """
        for group in self._groups:
            table = table.to(self.device)
            with collective("the all_reduce that shares every alpha"):
                dist.all_reduce(table, group=group)
        return table

    def agree(self, values: Sequence[float], what: str) -> None:
        """Stop the run where ranks hold different values.

        Collective: every rank of the group calls this, in the same order.

        Raises:
            RuntimeError: on every rank, naming the ranks that differ from the majority.
        """
        digest = hashlib.sha256(
            torch.tensor(values, dtype=torch.float64).numpy().tobytes()
        ).digest()
        every = torch.tensor(
            [int.from_bytes(digest[:8], "little", signed=True)],
            dtype=torch.int64,
            device=self.device,
        )
        for group in self._groups:
            parts = [torch.empty_like(every) for _ in range(dist.get_world_size(group))]
            with collective("the all_gather that compares the decays of the ranks"):
                dist.all_gather(parts, every, group=group)
            every = torch.cat(parts)
        hashes = every.tolist()
        common = max(dict.fromkeys(hashes), key=hashes.count)  # a tie goes to the first rank's
        odd = [rank for rank, value in enumerate(hashes) if value != common]
        if odd:
            raise RuntimeError(
                f"{what} differ between ranks: ranks {odd} of the group hold others than the rest; "
                "stopping"
            )
