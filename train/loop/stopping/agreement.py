"""Has all ranks agree on whether to stop: each knows only its own signals, rank 0 the clock."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from train.cluster.distributed import World
from train.loop.stopping.budget import Budget
from train.loop.stopping.signals import StopRequests, agreed
from train.system.lease import Lease


@dataclass(frozen=True)
class StopAgreement:
    """What may stop a run, asked on every rank alike.

    Args:
        requests: what asked this process.
        budget: the time that the run may take; rank 0's counts.
        lease: rank 0's right to write in output_dir; None where nobody else can.
    """

    world: World
    requests: StopRequests
    budget: Budget
    lease: Lease | None

    def ask(self) -> str:
        """Return why to stop, empty where nothing asks for it. Collective."""
        flags = torch.tensor(self._flags(), dtype=torch.float64)
        dist.all_reduce(flags, group=self.world.control)
        return agreed(flags.tolist())

    def ask_with_loss(self, loss: Tensor) -> tuple[float, str]:
        """Return the mean loss over the ranks, and why to stop: one message. Collective."""
        flags = torch.tensor(self._flags(), dtype=torch.float64, device=loss.device)
        message = torch.cat([loss.reshape(1), flags])
        dist.all_reduce(message)
        loss_sum, *flag_sums = message.tolist()
        return loss_sum / self.world.size, agreed(flag_sums)

    def _flags(self) -> list[float]:
        return self.requests.flags(
            out_of_time=self.world.is_main and self.budget.spent(),
            taken_over=self.lease is not None and self.lease.lost,
        )
