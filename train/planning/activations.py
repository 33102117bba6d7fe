"""Counts what a forward pass keeps for the backward pass, on tensors without contents.

The model's own code runs under torch's FakeTensorMode with one and with two layers and rows; more
layers add what the second added, and so do more rows.

T tokens of a micro batch, V vocabulary, H hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from train.config import ModelConfig
from train.models import spec_of
from train.models.build import quantise_model
from train.models.chunked_loss import chunk_bytes


@dataclass(frozen=True)
class Activations:
    """The bytes on one rank for one micro batch.

    Args:
        layers: kept by all decoder layers; with recomputation their inputs, and one layer while it
            is recomputed.
        head: kept by the embedding, the last norm, the head and the loss: mostly logits, in
            float32.
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
        sequence_length: positions of a row.
        bf16: weights and activations in 16 bits.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    one, two = (_of_rows(model, few, sequence_length, dtype) for few in (1, 2))
    more = rows - 1
    return Activations(
        one.layers + more * (two.layers - one.layers), one.head + more * (two.head - one.head)
    )


def loss_bytes(model: ModelConfig, rows: int, sequence_length: int, bf16: bool, fused: bool) -> int:
    """Return the most that head and loss take at once, where their backward pass begins.

    Plain, these are three float32 tensors of the logits' size: log-probabilities, their gradient
    and that of the logits. Without logits in memory these are the inputs, their gradient and that
    times the loss's own, the gradient of the head's weight in float32 and as it is handed on, and
    the largest of what there is for a time: a piece of logits, be it liger-kernel's of T x H or
    ours, and the weight's gradient times the loss's own.

    Args:
        rows: of a micro batch.
        sequence_length: positions of a row.
        fused: the loss is computed without the logits in memory.
    """
    itemsize = 2 if bf16 else 4
    logits = rows * spec_of(model).logits_of_row(model, sequence_length)
    if not fused:
        return 12 * logits
    tokens = rows * sequence_length
    inputs = tokens * model.hidden_size
    weight = model.vocab_size * model.hidden_size
    passing = max(12 * inputs, chunk_bytes(tokens, model.vocab_size), 4 * weight)
    return 3 * itemsize * inputs + (4 + itemsize) * weight + passing


def evaluation_bytes(model: ModelConfig, rows: int, sequence_length: int, bf16: bool) -> int:
    """Return the most that a validation pass takes at once: its logits, and twice in float32."""
    logits = rows * spec_of(model).logits_of_row(model, sequence_length)
    return (8 + (2 if bf16 else 4)) * logits


@cache
def _of_rows(
    model: ModelConfig, rows: int, sequence_length: int, dtype: torch.dtype
) -> Activations:
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
        quantise_model(module, model)
        weights = {StorageWeakRef(parameter.untyped_storage()) for parameter in module.parameters()}
        inputs = spec.inputs(model, rows, sequence_length)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            # keeps the graph, and with it every storage
            outputs = module(**inputs)
        total = sum(size for storage, size in kept.items() if storage not in weights)
        del outputs
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
