"""Counts what a forward pass keeps for the backward pass, on tensors without contents.

The model's own code runs under torch's FakeTensorMode with one and with two layers; more layers add
what the second added.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from train.config import ModelConfig
from train.models import spec_of


@dataclass(frozen=True)
class Activations:
    """The bytes on one rank for one micro batch.

    Args:
        layers: kept by all decoder layers; with recomputation their inputs, and one layer while it
            is recomputed.
        head: kept by the embedding, the last norm, the head and the loss: mostly logits.
    """

    layers: int
    head: int


def count_activations(
    model: ModelConfig, rows: int, sequence_length: int, bf16: bool
) -> Activations:
    """Return the bytes that a forward pass keeps.

    Args:
        model: its layers are counted twice and the rest inferred.
        rows: of a micro batch.
        sequence_length: tokens of a row.
        bf16: weights and activations in 16 bits.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    one, two = (
        _saved(replace(model, num_layers=layers), rows, sequence_length, dtype) for layers in (1, 2)
    )
    layer = two - one
    if not model.activation_checkpointing:
        return Activations(layer * model.num_layers, one - layer)
    inputs = rows * sequence_length * model.hidden_size * dtype.itemsize
    return Activations(inputs * model.num_layers + layer, one - layer)


def _saved(model: ModelConfig, rows: int, sequence_length: int, dtype: torch.dtype) -> int:
    """Return the bytes that autograd saves, each storage once, without the weights."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    spec = spec_of(model)
    config = spec.config(replace(model, attention="sdpa"), sequence_length)
    kept: dict[StorageWeakRef, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[StorageWeakRef(storage)] = storage.nbytes()
        return tensor

    with FakeTensorMode():
        with _default_dtype(dtype):
            module = spec.bare(config)
        weights = {StorageWeakRef(parameter.untyped_storage()) for parameter in module.parameters()}
        tokens_BL = torch.zeros(rows, sequence_length, dtype=torch.int64)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            # keeps the graph, and with it every storage
            loss = module(input_ids=tokens_BL, labels=tokens_BL).loss
        total = sum(size for storage, size in kept.items() if storage not in weights)
        del loss
    return total


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Have new parameters be of `dtype`; buffers that ask for float32 stay so."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
