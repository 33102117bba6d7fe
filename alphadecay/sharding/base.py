"""What a sharding backend offers, and the small collectives that all of them share.

A backend says two things: how its weights reach their owner ranks, and where the pieces of each
parameter lie in the tensors that an optimizer updates.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from alphadecay.modules import WeightModule

# rounds[r][rank]: the module that `rank` receives in round r, or None.
Rounds = Sequence[Sequence[WeightModule | None]]


@dataclass(frozen=True)
class Span:
    """A run of one parameter's elements inside a tensor that an optimizer updates.

    Args:
        parameter: the model's parameter.
        start: first element of the run in the row-major parameter.
        length: elements in the run.
        tensor: what the optimizer updates: the parameter itself or a flat partition.
        offset: where the run begins in the flattened tensor.
        group: index of the optimizer's param group.
        columns: where the tensor holds these columns [first, last) of all rows instead of a run
            (Shard(1)); else None.
    """

    parameter: nn.Parameter
    start: int
    length: int
    tensor: Tensor
    offset: int
    group: int
    columns: tuple[int, int] | None = None


@contextmanager
def collective(what: str) -> Iterator[None]:
    """Name the collective in the error of one that fails, so that a dead peer does not read like a
    bug here.
    """
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"AlphaDecay: {what} failed, most likely because another rank died or is late; its "
            f"error: {error}"
        ) from error


class Sharding(ABC):
    """One way in which the ranks hold the weights.

    Args:
        device: where the weights lie.
        group: the process group that the weights are replicated or sharded on; None for a single
            process.
        replica_group: the ranks that hold the same shards of other copies of the weights; None
            where there is one copy.

    Attributes:
        unshared: ids of the parameters that the wrapper leaves to each rank, where they may differ.
    """

    unshared: frozenset[int] = frozenset()

    def __init__(
        self,
        device: torch.device,
        group: dist.ProcessGroup | None,
        replica_group: dist.ProcessGroup | None = None,
    ) -> None:
        self.group = group
        self.device = _collective_device(device, group)
        self._groups = [
            g for g in (group, replica_group) if g is not None and dist.get_world_size(g) > 1
        ]
        self.shard = dist.get_rank(group) if group is not None else 0
        self.shards = dist.get_world_size(group) if group is not None else 1
        copy = dist.get_rank(replica_group) if replica_group is not None else 0
        copies = dist.get_world_size(replica_group) if replica_group is not None else 1
        self.rank = copy * self.shards + self.shard
        self.world_size = copies * self.shards
        self._failure = ""
        self._cause: Exception | None = None

    @abstractmethod
    def deliver(self, rounds: Rounds) -> Iterator[tuple[WeightModule, Tensor]]:
        """Bring this rank its matrices, round by round: (module, weight_MN).

        Collective: every rank of the group exhausts it, with the same rounds.
        """

    def spans(self, optimizer: torch.optim.Optimizer) -> Iterator[Span]:
        """Say where every parameter lies in what the optimizer updates: here, in itself."""
        for index, group in enumerate(optimizer.param_groups):
            for parameter in group["params"]:
                yield self.span(parameter, index)

    def span(self, parameter: nn.Parameter, group: int) -> Span:
        """Say where one parameter lies that the optimizer updates itself."""
        return Span(parameter, 0, parameter.numel(), parameter, 0, group)

    @contextmanager
    def attempt(self, module: str) -> Iterator[None]:
        """Keep an error of this rank until `share`, where every rank raises it: a rank that left
        alone would have the others wait for it.
        """
        try:
            yield
        except Exception as error:
            if self._cause is None:
                kind = type(error).__name__
                self._failure = f"rank {self.rank} could not measure {module}: {kind}: {error}"
                self._cause = error

    def share(self, table: Tensor) -> Tensor:
        """Sum the ranks' tables. A row is filled by one rank and zero elsewhere: the sum is exact.

        Collective: every rank of the group calls this, in the same order.

        Args:
            table: float64, [modules, fields], any device.

        Raises:
            RuntimeError: on every rank alike, where an `attempt` of any rank failed.
        """
        failed = torch.full_like(table[:1], float(bool(self._failure)))
        table = torch.cat([table, failed])
        return self._checked(self.sum_up(table, "the all_reduce that shares every alpha"))

    def sum_up(self, table: Tensor, what: str) -> Tensor:
        """Sum the ranks' tables, and wait for no device.

        Collective: every rank of the group calls this, in the same order.

        Args:
            table: float64, any device; where there are other ranks, it is overwritten.
            what: names the collective in an error.
        """
        for group in self._groups:
            table = table.to(self.device)
            with collective(what):
                dist.all_reduce(table, group=group)
        return table

    def _checked(self, table: Tensor) -> Tensor:
        """Collective where a rank has failed, which the table says to all."""
        if not float(table[-1].sum()):
            return table[:-1]
        failures = [self._failure]
        cause = self._cause
        self._failure = ""
        self._cause = None
        for group in self._groups:
            parts: list[list[str]] = [[] for _ in range(dist.get_world_size(group))]
            with collective("the all_gather of what went wrong"):
                dist.all_gather_object(parts, failures, group=group)
            failures = [failure for part in parts for failure in part]
        first = next(failure for failure in failures if failure)
        raise RuntimeError(f"AlphaDecay: {first}") from cause

    def refuse_unlike(self, modules: Iterable[WeightModule]) -> None:
        """Refuse modules that are others on every rank under one name, as experts may be.

        Collective where some are left to each rank.

        Raises:
            ValueError: on every rank, naming the first that differs.
        """
        for module in modules:
            if id(module.parameter) not in self.unshared:
                continue
            if odd := self.odd_ranks([float(module.parameter.detach().sum(dtype=torch.float64))]):
                raise ValueError(
                    f"{module.name} is another weight on ranks {odd} than on the rest, and one "
                    "alpha would decay them all: have all ranks hold the same, or leave it at the "
                    f"base decay with exclude=[{module.name.partition('[')[0]!r}]"
                )

    def agree(self, values: Sequence[float], what: str) -> None:
        """Stop the run where ranks hold different values.

        Collective: every rank of the group calls this, in the same order.

        Raises:
            RuntimeError: on every rank, naming the ranks that differ from the majority.
        """
        if odd := self.odd_ranks(values):
            raise RuntimeError(
                f"{what} differ between ranks: ranks {odd} of the group hold others than the rest; "
                "stopping"
            )

    def odd_ranks(self, values: Sequence[float]) -> list[int]:
        """Return the ranks whose values are not those of the majority.

        Collective: every rank of the group calls this, in the same order.
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
            with collective("the all_gather that compares the ranks"):
                dist.all_gather(parts, every, group=group)
            every = torch.cat(parts)
        hashes = every.tolist()
        common = max(dict.fromkeys(hashes), key=hashes.count)  # a tie goes to the first rank's
        return [rank for rank, value in enumerate(hashes) if value != common]


def _collective_device(device: torch.device, group: dist.ProcessGroup | None) -> torch.device:
    """Where the group's collectives run: with the weights, unless these are offloaded."""
    if group is None or "nccl" not in dist.get_backend(group):
        return torch.device("cpu")
    if device.type == "cuda":
        return device
    return torch.device("cuda", torch.cuda.current_device())


def whole_matrix(module: WeightModule) -> Tensor:
    """Return the module's matrix [M, N] out of a parameter that this rank holds whole."""
    start, stop = module.flat_range
    return module.matrix(module.parameter.detach().reshape(-1)[start:stop])
