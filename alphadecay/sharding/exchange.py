"""What every sharded backend does: one all_to_all_single per round brings one matrix to each owner.

Where a rank's piece of a matrix lies, and how pieces make the matrix again, is the backend's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from alphadecay.modules import WeightModule
from alphadecay.sharding.base import Rounds, Sharding, collective, whole_matrix


class Exchange(Sharding):
    """Moves pieces inside the shard group; traffic in total is the weights once, extra memory one
    matrix per rank.

    `group` holds the ranks that together have one copy of the weights, `replica_group` those that
    have the same shard of other copies. Owners are spread over all copies, so that copies do not
    repeat each other's work.
    """

    def __init__(
        self,
        device: torch.device,
        group: dist.ProcessGroup,
        replica_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(device, group, replica_group)
        self._splits: dict[str, list[int]] = {}  # by module: shards do not change once wrapped

    @abstractmethod
    def is_sharded(self, module: WeightModule) -> bool:
        """Return False where every rank holds the parameter whole."""

    @abstractmethod
    def piece(self, module: WeightModule, shard: int) -> Tensor:
        """Return this rank's, `shard`'s, elements of the module's whole rows; one axis."""

    @abstractmethod
    def size(self, module: WeightModule, shard: int) -> int:
        """Return how many elements `piece` has on another rank."""

    @abstractmethod
    def assemble(self, module: WeightModule, received: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the module's whole rows, one axis, from the pieces, one behind the other in shard
        order; no copy where none is needed.
        """

    @abstractmethod
    def dtype(self, module: WeightModule) -> torch.dtype:
        """Return the type of the shards."""

    def deliver(self, rounds: Rounds) -> Iterator[tuple[WeightModule, Tensor]]:
        wire_dtype = self._wire_dtype([m for row in rounds for m in row if m is not None])
        first = self.rank - self.shard  # this copy's ranks are neighbours in the plan
        for row in rounds:
            yield from self._round(row[first : first + self.shards], wire_dtype)

    def _round(
        self, row: Sequence[WeightModule | None], wire_dtype: torch.dtype
    ) -> Iterator[tuple[WeightModule, Tensor]]:
        """Collective in the shard group: one matrix to each of its ranks."""
        sharded = [
            module if module is not None and self.is_sharded(module) else None for module in row
        ]
        mine = row[self.shard]
        if any(module is not None for module in sharded):
            received, sizes = self._exchange(sharded, wire_dtype)
            if sharded[self.shard] is not None:
                assert mine is not None
                whole = mine.matrix(self.assemble(mine, received, sizes))
                del received
                yield mine, whole
                del whole
        if mine is not None and sharded[self.shard] is None:
            yield mine, whole_matrix(mine)

    def _exchange(
        self, row: Sequence[WeightModule | None], wire_dtype: torch.dtype
    ) -> tuple[Tensor, list[int]]:
        """Collective in the shard group.

        Returns the pieces of this rank's module, one behind the other, and their sizes.
        """
        none = torch.empty(0, dtype=wire_dtype, device=self.device)
        send = [none if module is None else self.piece(module, self.shard) for module in row]
        # joined first where they lie together: offloaded shards then move in one copy
        kept = [piece for piece in send if piece.numel()] or [none]
        buffer = _joined(kept).to(device=self.device, dtype=wire_dtype)
        sizes = self._sizes(row[self.shard])
        received = torch.empty(sum(sizes), dtype=wire_dtype, device=self.device)
        with collective("the all_to_all_single that brings matrices to their owner ranks"):
            dist.all_to_all_single(
                received, buffer, sizes, [piece.numel() for piece in send], group=self.group
            )
        return received, sizes

    def _sizes(self, module: WeightModule | None) -> list[int]:
        """Elements of the module's whole rows on every rank of the shard group; computed once."""
        if module is None:
            return [0] * self.shards
        if module.name not in self._splits:
            self._splits[module.name] = [self.size(module, shard) for shard in range(self.shards)]
        return self._splits[module.name]

    def _wire_dtype(self, modules: Sequence[WeightModule]) -> torch.dtype:
        """The weights' own dtype where they share one (bf16 travels as bf16), else float32."""
        dtypes = {self.dtype(module) for module in modules if self.is_sharded(module)}
        return dtypes.pop() if len(dtypes) == 1 else torch.float32


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    """Return the pieces one behind the other, on the device of the first."""
    return torch.cat([piece.to(pieces[0].device) for piece in pieces])
