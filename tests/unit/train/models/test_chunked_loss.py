"""Head and loss in chunks: torch's own loss and gradients, without all logits in memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from train.models import chunked_loss
from train.models.chunked_loss import IGNORED, chunk_gradients, chunked_cross_entropy

ROWS = 50
WIDTH = 16
VOCABULARY = 64
Z_LOSS = 1e-2


@pytest.fixture(params=[7, 16, 64], ids="chunks of {} rows".format)
def chunks(request, monkeypatch):
    """Set how many rows a chunk may have; 50 is no multiple of any."""
    monkeypatch.setattr(chunked_loss, "CHUNK", request.param * VOCABULARY)


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(ROWS, WIDTH, generator=generator).to(dtype)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator).to(dtype)
    labels = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    labels[::7] = IGNORED
    return hidden.requires_grad_(), weight.requires_grad_(), labels


def plain(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight)
    return functional.cross_entropy(
        logits if logits.dtype == torch.double else logits.float(), labels
    )


def results(loss_of: Any, dtype: torch.dtype, factor: float = 0.25) -> list[Tensor]:
    hidden, weight, labels = inputs(dtype)
    loss = loss_of(hidden, weight, labels)
    (loss * factor).backward()
    assert hidden.grad is not None and weight.grad is not None
    return [loss.detach(), hidden.grad, weight.grad]


# Sums of chunks round elsewhere; in bf16 both round the logits' gradient to 8 bits, ours before it
# is divided by the number of rows and the plain one after.
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.double, 1e-13), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
def test_loss_and_gradients_are_torchs(chunks, dtype, tolerance):
    for ours, theirs in zip(
        results(chunked_cross_entropy, dtype), results(plain, dtype), strict=True
    ):
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).norm() <= tolerance * theirs.norm()


def with_z(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight)[labels != IGNORED]
    log_z = logits.exp().sum(1).log()
    return plain(hidden, weight, labels) + Z_LOSS * log_z.square().mean()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-12), (torch.float32, 1e-5)])
def test_the_z_loss_is_log_z_squared(chunks, dtype, tolerance):
    def ours(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
        gradients = partial(chunk_gradients, z_loss=Z_LOSS)
        return chunked_cross_entropy(hidden, weight, labels, gradients)

    for own, true in zip(results(ours, dtype), results(with_z, dtype), strict=True):
        assert (own - true).norm() <= tolerance * true.norm()
    assert results(with_z, dtype)[0] > 1.01 * results(plain, dtype)[0]


def test_in_bf16_the_gradients_are_as_near_to_float64_as_torchs(chunks):
    def distances(loss_of: Any) -> list[float]:
        exact = [value.double() for value in inputs(torch.bfloat16)[:2]]
        hidden, weight = (value.detach().requires_grad_() for value in exact)
        plain(hidden, weight, inputs(torch.bfloat16)[2]).backward()
        found = results(loss_of, torch.bfloat16, factor=1.0)[1:]
        pairs = zip(found, (hidden.grad, weight.grad), strict=True)
        return [float((one.double() - true).norm() / true.norm()) for one, true in pairs]

    for ours, theirs in zip(distances(chunked_cross_entropy), distances(plain), strict=True):
        assert ours <= 1.1 * theirs


def test_no_row_that_counts_gives_what_torch_gives():
    hidden, weight, labels = inputs(torch.float32)
    labels[:] = IGNORED
    assert chunked_cross_entropy(hidden, weight, labels).isnan()
    assert plain(hidden, weight, labels).isnan()


def test_under_autocast(chunks):
    def run(loss_of: Any) -> list[Tensor]:
        hidden, weight, labels = inputs(torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(hidden, weight, labels)
        loss.backward()
        return [loss.detach(), hidden.grad, weight.grad]

    for ours, theirs in zip(run(chunked_cross_entropy), run(plain), strict=True):
        assert ours.dtype == theirs.dtype == torch.float32
        assert (ours - theirs).norm() <= 1e-2 * theirs.norm()


class Watch(TorchDispatchMode):
    """Notes the largest result there is, and how often the host reads a value."""

    largest = 0
    reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.reads += "_local_scalar_dense" in str(func)
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, tuple | list) else [found]:
            if isinstance(value, Tensor):
                self.largest = max(self.largest, value.numel())
        return found


def test_the_logits_are_never_whole_and_the_host_waits_for_nothing(monkeypatch):
    monkeypatch.setattr(chunked_loss, "CHUNK", 10 * VOCABULARY)
    found = []
    for loss_of in (chunked_cross_entropy, plain):
        values = inputs(torch.float32)
        with Watch() as watch:
            loss_of(*values).backward()
        assert watch.reads == 0
        found.append(watch.largest)
    assert found == [max(10 * VOCABULARY, VOCABULARY * WIDTH), ROWS * VOCABULARY]


def test_chunks_are_of_one_size_where_they_can_be(monkeypatch):
    def sizes(rows: int, chunk_rows: int) -> list[int]:
        monkeypatch.setattr(chunked_loss, "CHUNK", chunk_rows * 100)
        return [len(range(rows)[rows_of]) for rows_of in chunked_loss._chunks(rows, 100)]

    assert sizes(16384, 1048) == [1024] * 16
    assert sizes(96, 40) == [32] * 3
    assert sizes(10, 40) == [10]
    assert sizes(7, 3) == [3, 3, 1]  # seven is prime, and one row a chunk too few
