"""Memory that another process sees: what is copied there, and that it is kept."""

from __future__ import annotations

import mmap
from typing import Any

import pytest
import torch

from train.system import shared_memory
from train.system.shared_memory import ALIGNMENT, Arena, aligned, can_share_memory


def seen(arena: Arena) -> mmap.mmap:
    """What a process with its descriptor maps."""
    return mmap.mmap(arena.descriptor, arena.capacity, prot=mmap.PROT_READ)


def test_tensors_of_any_kind_are_copied_to_their_places() -> None:
    arena = Arena(torch.device("cpu"))
    arena.reserve(3 * ALIGNMENT)
    matrix = torch.arange(12.0).view(3, 4)
    half = torch.arange(5, dtype=torch.bfloat16)
    pieces = [(matrix.t(), 0), (half, ALIGNMENT), (torch.empty(0), 0), (torch.tensor(True), 128)]
    arena.copy(pieces)
    arena.put(b"text", 140)
    with seen(arena) as memory:
        there = torch.frombuffer(bytearray(memory[:48]), dtype=torch.float32)
        assert there.view(4, 3).equal(matrix.t())
        assert torch.frombuffer(bytearray(memory[64:74]), dtype=torch.bfloat16).equal(half)
        assert memory[128] == 1 and memory[140:144] == b"text"
    arena.close()


def test_it_grows_and_never_shrinks() -> None:
    arena = Arena(torch.device("cpu"))
    arena.reserve(10)
    first = arena.capacity
    arena.reserve(first)
    assert arena.capacity == first >= 10
    arena.reserve(first + 1)
    assert arena.capacity > first
    arena.copy([(torch.ones(arena.capacity, dtype=torch.uint8), 0)])
    with seen(arena) as memory:
        assert memory[:] == b"\1" * arena.capacity
    arena.close()
    assert arena.capacity == 0


def test_after_a_failed_growth_nothing_passes_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    arena = Arena(torch.device("cpu"))
    arena.reserve(10)
    with monkeypatch.context() as patch:
        patch.setattr(shared_memory.os, "ftruncate", full)
        with pytest.raises(OSError, match="Cannot allocate"):
            arena.reserve(arena.capacity + 1)
    assert arena.capacity == 0
    arena.reserve(5)
    arena.copy([(torch.arange(5, dtype=torch.uint8), 0)])
    with seen(arena) as memory:
        assert memory[:5] == bytes(range(5))
    arena.close()


def test_a_system_that_refuses_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise OSError(38, "Function not implemented")

    assert can_share_memory()
    monkeypatch.setattr(shared_memory.os, "memfd_create", refuse)
    assert not can_share_memory()


@pytest.mark.parametrize(("size", "next_one"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_places_are_aligned(size: int, next_one: int) -> None:
    assert aligned(size) == next_one


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory is CUDA's")


@GPU
@pytest.mark.gpu
def test_a_gpus_tensors_are_copied_to_pinned_memory_before_they_change() -> None:
    said: list[str] = []
    arena = Arena(torch.device("cuda", torch.cuda.current_device()), said.append)
    for elements in (1000, 20_000_000):  # the second time it grows
        weight = torch.randn(elements, device="cuda")
        expected = weight.cpu()
        arena.reserve(weight.nbytes)
        arena.copy([(weight, 0)])
        weight.zero_()
        with seen(arena) as memory:
            there = torch.frombuffer(bytearray(memory[: expected.nbytes]), dtype=torch.float32)
        assert there.equal(expected)
        assert arena.pinned and said == []
    arena.close()


@GPU
@pytest.mark.gpu
def test_without_pinned_memory_it_is_said_and_copied_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    runtime = torch.cuda.cudart()

    class Refusing:
        """Registers nothing, as CUDA does where memory cannot be locked."""

        def cudaHostRegister(self, pointer: int, size: int, flags: int) -> Any:
            return runtime.cudaHostRegister(0, 0, flags)

    arena = Arena(torch.device("cuda", torch.cuda.current_device()), said.append)
    monkeypatch.setattr(torch.cuda, "cudart", Refusing)
    weight = torch.randn(1000, device="cuda")
    arena.reserve(weight.nbytes)
    arena.copy([(weight, 0)])
    with seen(arena) as memory:
        there = torch.frombuffer(bytearray(memory[: weight.nbytes]), dtype=torch.float32)
    assert there.equal(weight.cpu())
    assert not arena.pinned and len(said) == 1 and "not pinned" in said[0]
    assert torch.ones(10, device="cuda").sum().item() == 10  # the refusal is forgotten
    arena.close()
