"""Lets go of an engine, so that the next case has the device's memory to itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor


def release(engine: Any) -> None:
    """Take an engine's hooks off, and give back the memory of its weights, gradients and moments.

    ZeRO-3 (0.19) outlives its engine: gradient hooks that autograd holds refer to it, and a list of
    the modules in forward.
    """
    if not hasattr(engine, "destroy"):  # FSDP2's is collected
        return
    held = {id(tensor): tensor for tensor in _tensors(engine)}
    engine.destroy()
    for tensor in held.values():
        with suppress(RuntimeError):  # memory that torch did not allocate
            tensor.untyped_storage().resize_(0)


def _tensors(engine: Any) -> Iterator[Tensor]:
    for parameter in engine.module.parameters():
        yield from _within([parameter, parameter.grad, getattr(parameter, "ds_tensor", None)])
    wrapper = engine.optimizer
    yield from _within(vars(wrapper).values())
    inner = getattr(wrapper, "optimizer", wrapper)
    yield from _within(state for state in inner.state.values())
    yield from _within(group["params"] for group in inner.param_groups)


def _within(values: Iterable[Any], depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors among values, and in lists and mappings of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping) and depth:
            yield from _within(value.values(), depth - 1)
        elif isinstance(value, list | tuple) and depth:
            yield from _within(value, depth - 1)
