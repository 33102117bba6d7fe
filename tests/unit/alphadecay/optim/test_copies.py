"""Copies from before a step, and pieces of tensors."""

from __future__ import annotations

import pytest
import torch

from alphadecay.optim import copies
from alphadecay.optim.copies import Copies, chunks


def test_a_copy_holds_until_the_next_of_its_key() -> None:
    kept = Copies()
    tensor = torch.arange(6.0)
    first = kept.take("a", tensor)
    other = kept.take("b", tensor)
    tensor.add_(1)
    assert first.tolist() == other.tolist() == [0, 1, 2, 3, 4, 5]
    again = kept.take("a", tensor)
    assert again.tolist() == [1, 2, 3, 4, 5, 6]
    assert again.data_ptr() == first.data_ptr() != other.data_ptr()  # no fresh memory on a CPU
    assert other.tolist() == [0, 1, 2, 3, 4, 5]


def test_another_shape_or_type_has_another_copy() -> None:
    kept = Copies()
    kept.take("a", torch.zeros(4))
    assert kept.take("a", torch.ones(2, 2)).tolist() == [[1, 1], [1, 1]]
    assert kept.take("a", torch.ones(2, 2, dtype=torch.float64)).dtype == torch.float64


def test_a_strided_view_has_a_contiguous_copy() -> None:
    view = torch.arange(6.0).view(2, 3)[:, :2]
    copy = Copies().take("a", view)
    assert copy.is_contiguous() and copy.tolist() == view.tolist()


def test_pieces_cover_tensors_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_CHUNK", 4)
    a = torch.arange(10.0)
    b = a * 2
    found = list(chunks(a, b))
    assert [len(left) for left, _ in found] == [4, 4, 2]
    assert all(torch.equal(right, 2 * left) for left, right in found)
    assert torch.equal(torch.cat([left for left, _ in found]), a)
    strided = torch.zeros(10, 2)[:, 0]
    assert [len(piece) for piece, _ in chunks(strided, a)] == [10]
