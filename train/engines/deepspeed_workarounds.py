"""Works around DeepSpeed where it would change what a run computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def forgetting_forward_passes(engine: Any) -> Callable[[], None]:
    """Return a callback to run after each evaluation forward pass.

    It discards the prefetch trace which ZeRO-3 recorded during that pass, and leaves none where
    there was none before.

    DeepSpeed (0.19) remembers which weights each module may release, and keeps that when the trace
    it was read from is thrown away. After an evaluation ahead of the first training step every
    weight would be released after its forward for the rest of the run, and gathered again, each
    alone, in the backward (`tests/distributed/test_evaluate.py` counts the gathers).
    """
    offload = getattr(getattr(engine, "optimizer", None), "parameter_offload", None)
    coordinator = offload.get_param_coordinator() if offload is not None else None
    if coordinator is None or not coordinator.is_invalid_trace():
        return lambda: None

    def forget() -> None:
        if not coordinator.is_invalid_trace():
            coordinator._invalidate_trace()

    return forget
