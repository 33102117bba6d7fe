"""Has all ranks agree on whether to stop: each knows only its own signals, rank 0 the clock.

How far a save is that is being written beside the training travels in the same message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from train.cluster.distributed import World
from train.loop.stopping.budget import Budget
from train.loop.stopping.signals import StopRequests, agreed
from train.system.lease import Lease


@dataclass(frozen=True)
class Agreed:
    """What all ranks know after they were asked.

    Args:
        stop: why to stop; empty where nothing asks for it.
        save_is_over: every rank's part of the save in flight is over.
    """

    stop: str
    save_is_over: bool


@dataclass(frozen=True)
class StopAgreement:
    """What may stop a run, and how its save in flight stands, asked on every rank alike.

    Args:
        requests: what asked this process.
        budget: the time that the run may take; rank 0's counts.
        lease: rank 0's right to write in output_dir; None where nobody else can.
        save_is_over: whether this rank's part of a save in flight is over.
    """

    world: World
    requests: StopRequests
    budget: Budget
    lease: Lease | None
    save_is_over: Callable[[], bool] = lambda: False

    def ask(self) -> Agreed:
        """Return what the ranks agree on. Collective."""
        flags = torch.tensor(self._flags(), dtype=torch.float64)
        dist.all_reduce(flags, group=self.world.control)
        return self._agreed(flags.tolist())

    def ask_with_loss(self, loss: Tensor) -> tuple[float, Agreed]:
        """Return the mean loss over the ranks, and what they agree on: one message. Collective."""
        flags = torch.tensor(self._flags(), dtype=torch.float64, device=loss.device)
        message = torch.cat([loss.reshape(1), flags])
        dist.all_reduce(message)
        loss_sum, *flag_sums = message.tolist()
        return loss_sum / self.world.size, self._agreed(flag_sums)

    def _flags(self) -> list[float]:
        reasons = self.requests.flags(
            out_of_time=self.world.is_main and self.budget.spent(),
            taken_over=self.lease is not None and self.lease.lost,
        )
        return [float(self.save_is_over()), *reasons]

    def _agreed(self, sums: list[float]) -> Agreed:
        saves, *reasons = sums
        return Agreed(agreed(reasons), saves == self.world.size)
