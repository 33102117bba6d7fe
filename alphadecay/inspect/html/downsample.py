"""Long curves made short enough for a phone, without losing what a person looks for in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST = 1500  # points of a curve
BARS = 300  # steps of a stack


def extremes(values: Sequence[float | None], most: int = MOST) -> list[int]:
    """Return the indices to keep: all of a short curve; of a long one the lowest and the highest of
    each stretch, so that no spike is lost.

    The first and the last are kept, and in each stretch one gap where it has one: a gap is a figure
    that was not finite.
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    kept = {0, count - 1}
    parts = most // 3
    for part in range(parts):
        stretch = range(part * count // parts, (part + 1) * count // parts)
        known = [(value, at) for at in stretch if (value := values[at]) is not None]
        if known:
            kept |= {min(known)[1], max(known)[1]}
        kept |= set([at for at in stretch if values[at] is None][:1])
    return sorted(kept)


def stretches(count: int, most: int = BARS) -> list[range]:
    """Divide `count` neighbours, to be summed up, into at most `most` stretches of nearly equal
    length.
    """
    size = max(1, math.ceil(count / most))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
