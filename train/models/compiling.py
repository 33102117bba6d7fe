"""Compiles the decoder layers with torch.compile, and knows how long that took.

Each layer's `forward` is compiled, and not the layer: hooks around it stay outside, ZeRO-3's above
all. All layers share one compiled code, for theirs differ in nothing but the weights they are
given. Shapes are static. A validation runs as written: its rows and its mode are others, which
would have to be compiled anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled for static shapes, once it is called."""
    _CLOCK.watch()
    compiled: Callable[..., Any] = torch.compile(function, dynamic=False)
    return compiled


def compile_layers(layers: Iterable[nn.Module]) -> None:
    """Have each layer run compiled code in training; names, parameters and hooks stay."""
    for layer in layers:
        _compile_forward(layer)


def _compile_forward(layer: nn.Module) -> None:
    written = layer.forward
    compiled = compile_function(written)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (compiled if layer.training else written)(*args, **kwargs)

    layer.forward = forward


class _CompileClock:
    """Counts the seconds in which torch compiled, backward passes included."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = 0.0

    def watch(self) -> None:
        """Count from now on; a second call changes nothing."""
        from torch._dynamo.callback import callback_handler

        if self._begin not in callback_handler.start_callbacks:
            callback_handler.register_start_callback(self._begin)
            callback_handler.register_end_callback(self._end)

    def _begin(self, *_: object) -> None:
        self._start = time.perf_counter()

    def _end(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start


_CLOCK = _CompileClock()


def compile_seconds() -> float:
    """Return how long this process has compiled in all."""
    return _CLOCK.seconds
