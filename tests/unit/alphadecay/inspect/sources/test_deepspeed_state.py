"""Elements out of pieces that lie end to end; whole layouts are under tests/unit/train and
tests/distributed, where they are made.
"""

from __future__ import annotations

import pytest
import torch

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources.stored import cut

FLAT = torch.arange(20.0)


@pytest.mark.parametrize("sizes", [[20], [1, 19], [7, 6, 7], [1] * 20, [0, 20, 0]])
@pytest.mark.parametrize(("start", "count"), [(0, 20), (0, 1), (6, 3), (19, 1), (5, 9)])
def test_a_cut_is_that_of_the_whole(sizes: list[int], start: int, count: int) -> None:
    pieces = FLAT.split(sizes)
    assert torch.equal(cut(pieces, start, count), FLAT[start : start + count])


@pytest.mark.parametrize(("start", "count"), [(0, 21), (19, 2), (25, 1)])
def test_a_cut_beyond_the_end_is_refused(start: int, count: int) -> None:
    with pytest.raises(InspectError, match="elements before the weight does"):
        cut(FLAT.split(7), start, count)
