"""The protocol of a transport, and the small collectives all of them share."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from alphadecay.modules import WeightModule

# rounds[r][rank]: the module that `rank` receives in round r, or None.
Rounds = Sequence[Sequence[WeightModule | None]]


class Transport(ABC):
    """Brings whole matrices to their owner ranks.

    Args:
        group: the process group that the weights are replicated or sharded on; None for a single process.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank = dist.get_rank(group) if group is not None else 0
        self.world_size = dist.get_world_size(group) if group is not None else 1

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
        """Sum of the ranks' tables. Each row is filled by one rank and zero elsewhere, so the sum is exact.

        Collective: every rank of the group calls this, in the same order.

        Args:
            table: float64, [modules, fields], any device.
        """
        if self.group is None or self.world_size == 1:
            return table
        shared = table.to(self.device)
        dist.all_reduce(shared, group=self.group)
        return shared

    def agree(self, values: Sequence[float], what: str) -> None:
        """Stop the run where ranks hold different values.

        Collective: every rank of the group calls this, in the same order.

        Raises:
            RuntimeError: on every rank, naming the ranks that differ from the majority.
        """
        if self.group is None or self.world_size == 1:
            return
        digest = hashlib.sha256(torch.tensor(values, dtype=torch.float64).numpy().tobytes()).digest()
        mine = torch.tensor([int.from_bytes(digest[:8], "little", signed=True)], dtype=torch.int64, device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.world_size)]
        dist.all_gather(every, mine, group=self.group)
        hashes = torch.cat(every).tolist()
        common = max(dict.fromkeys(hashes), key=hashes.count)  # a tie goes to the first rank's
        odd = [rank for rank, value in enumerate(hashes) if value != common]
        if odd:
            raise RuntimeError(f"{what} differ between ranks: ranks {odd} of the group hold others than the rest; stopping")
