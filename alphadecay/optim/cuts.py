"""Where a module's elements lie in a tensor that an optimizer updates: strided blocks of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from alphadecay.modules import WeightModule
from alphadecay.sharding.base import Span


@dataclass(frozen=True)
class Cut:
    """A strided block of a flat tensor: `count` runs of `length` elements, `stride` apart, that
    share one decay.
    """

    key: str
    offset: int
    length: int
    count: int = 1
    stride: int = 0

    def view(self, flat: Tensor) -> Tensor:
        if self.count == 1:
            return flat.narrow(0, self.offset, self.length)
        return flat.as_strided(
            (self.count, self.length), (self.stride, 1), flat.storage_offset() + self.offset
        )


@dataclass
class Bound:
    """One optimizer tensor with its cuts.

    Views are made at each step: what is kept would pin a storage that the tensor has left.
    """

    tensor: Tensor
    cuts: list[Cut] = field(default_factory=list)
    elements: int = 0  # of parameters; what is beyond them fills the tensor up

    def __post_init__(self) -> None:
        self.is_dtensor = hasattr(self.tensor, "_local_tensor")

    @property
    def is_in_runs(self) -> bool:
        """Whether the cuts are contiguous and leave no element of a parameter out."""
        plain = all(cut.count == 1 for cut in self.cuts)
        return plain and sum(cut.length for cut in self.cuts) == self.elements

    def views(self, tensor: Any) -> list[Tensor]:
        """Return one view per cut, in cut order, of the tensor or of its gradient.

        Of a DTensor this rank's shard, without `to_local()`, which costs more than the decay of a
        small weight.
        """
        return self.cut_up(self.local(tensor))

    def pairs(self) -> Iterator[tuple[Cut, Tensor]]:
        """Yield every cut with its view of the gradient."""
        yield from zip(self.cuts, self.views(self.tensor.grad), strict=True)

    def triples(self) -> Iterator[tuple[Cut, Tensor, Tensor]]:
        """Yield every cut with its views of the weight and of the gradient."""
        gradients = self.views(self.tensor.grad)
        yield from zip(self.cuts, self.views(self.tensor), gradients, strict=True)

    def local(self, tensor: Any) -> Tensor:
        """Return what this rank holds of the tensor or of its gradient."""
        shard: Tensor = tensor._local_tensor if self.is_dtensor else tensor
        return shard

    def cut_up(self, local: Tensor) -> list[Tensor]:
        """Return one view per cut, in cut order, of what lies as the tensor's shard does."""
        if len(self.cuts) == 1 and self.cuts[0].length * self.cuts[0].count == local.numel():
            return [local]
        flat = local.detach().view(-1)
        return [cut.view(flat) for cut in self.cuts]


def cuts_of(module: WeightModule, span: Span) -> Iterator[Cut]:
    """The part of a span that belongs to a module.

    Whole rows are one run; a block of columns is a head, a body and a tail.
    """
    if span.columns is not None:
        held = span.columns[1] - span.columns[0]
        low = max(module.columns[0], span.columns[0])
        high = min(module.columns[1], span.columns[1])
        if high > low:
            yield Cut(
                module.name,
                module.rows[0] * held + low - span.columns[0],
                high - low,
                module.rows[1] - module.rows[0],
                held,
            )
        return
    low = max(module.flat_range[0], span.start)
    high = min(module.flat_range[1], span.start + span.length)
    if low >= high:
        return
    shift = span.offset - span.start
    width = module.row_length
    (first, last) = module.columns
    if last - first == width:
        yield Cut(module.name, low + shift, high - low)
        return
    body = -(-low // width)
    end = high // width
    for row in {low // width, end}:
        if body <= row < end:
            continue
        start = max(low, row * width + first)
        stop = min(high, row * width + last)
        yield Cut(module.name, start + shift, max(0, stop - start))
    if end > body:
        yield Cut(module.name, body * width + first + shift, last - first, end - body, width)
