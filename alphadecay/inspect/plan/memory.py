"""Predicts what a rank holds, in bytes: between and during steps, and in a refresh beside it.

P parameters, W ranks. Under ZeRO 1 and 2 a rank owns an equal share of the flattened group, under 3
a slice of every parameter, under FSDP2 a block of every parameter's rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from alphadecay.sharding.layout import block_rows, slice_elements

FLOAT32 = 4
_ALIGNMENT = 2  # elements; DeepSpeed pads the flattened group to a multiple of it per rank


@dataclass(frozen=True)
class Spread:
    """How a model is spread over ranks, and in what it is computed: what decides memory.

    Args:
        stage: of ZeRO; 0 where every rank holds all, as under DDP.
        ranks: that share the model.
        itemsize: bytes of a weight, 2 in bf16.
        accumulation: bytes of a gradient where it is summed.
        offload_optimizer: float32 weights, moments and their gradients are in the host's memory.
        offload_parameters: and so are the slices of ZeRO-3.
        live_parameters: weights that ZeRO-3 has gathered at most: those in use, fetched ahead or
            about to be used again; units such as a decoder layer are within it.
        fsdp2: FSDP2 shards, not ZeRO: float32 weights like ZeRO-3's slices, and no masters.
        whole_gradients: FSDP2 keeps them whole until a step's last micro batch.
    """

    stage: int
    ranks: int
    itemsize: int
    accumulation: int
    offload_optimizer: bool = False
    offload_parameters: bool = False
    live_parameters: int = 0
    fsdp2: bool = False
    whole_gradients: bool = False

    @property
    def name(self) -> str:
        """What spreads the model, for a person."""
        return "FSDP2" if self.fsdp2 else f"ZeRO-{self.stage}"

    @property
    def wire_itemsize(self) -> int:
        """Bytes of a weight's element on its way to its owner; 0 where nothing is sent."""
        if self.fsdp2:
            return FLOAT32
        return self.itemsize if self.stage == 3 else 0

    def full_piece(self, shape: Sequence[int]) -> int:
        """Return the elements of a parameter on a rank that is full, where it is sharded."""
        if self.fsdp2:
            return block_rows(shape[0], self.ranks) * prod(shape[1:])
        return slice_elements(prod(shape), self.ranks)


@dataclass(frozen=True)
class Memory:
    """The bytes on one rank.

    Args:
        weights: what the model computes with.
        gradients: what is kept until the step.
        optimizer: float32 masters and the two moments.
    """

    weights: int
    gradients: int
    optimizer: int


def predict_memory(shapes: Sequence[Sequence[int]], spread: Spread) -> Memory:
    """Return what the fullest rank holds; a test compares it with the tensors of real engines.

    Args:
        shapes: of all parameters, tied ones once.
        spread: how they are spread.
    """
    elements = sum(prod(shape) for shape in shapes)
    if spread.fsdp2:
        share = sum(map(spread.full_piece, shapes))
        whole = elements if spread.whole_gradients else 0
        return Memory(FLOAT32 * share, FLOAT32 * (share + whole), 2 * FLOAT32 * share)
    if spread.stage == 3:
        share = sum(map(spread.full_piece, shapes))
    elif spread.stage:
        unit = _ALIGNMENT * spread.ranks
        share = -(-elements // unit) * _ALIGNMENT
    else:
        share = elements
    # else the weights are the masters
    masters = FLOAT32 if spread.stage or spread.itemsize < FLOAT32 else 0
    summed = elements if spread.stage < 2 else share
    gradients = spread.accumulation * summed
    if spread.stage == 1 and spread.itemsize < spread.accumulation:
        # its float32 sums are beside the gradients of the backward pass
        gradients += spread.itemsize * elements
    return Memory(
        weights=spread.itemsize * (share if spread.stage == 3 else elements),
        gradients=gradients,
        optimizer=(masters + 2 * FLOAT32) * share,
    )


def refresh_bytes(shapes: Iterable[tuple[int, int]], spread: Spread) -> int:
    """Return what the owner of the largest module has beside the model in a refresh.

    It is gathered (ZeRO-3), in float64 with its Gram matrix and the solver's work space, as a GPU
    takes it that solves by four threads; in float32 it is less (2.2 to 2.7 times the matrix on an
    H200).

    Args:
        shapes: (M, N) of the modules; at least one.
    """
    gathered = spread.wire_itemsize
    sizes = []
    for shape in shapes:
        short, long = sorted(shape)
        solved = max(8 * long * short + 32 * short * short, 72 * short * short)
        sizes.append(gathered * long * short + solved)
    return max(sizes)
