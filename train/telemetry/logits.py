"""Measures, while a validation runs, how large logits have grown: of attention and of the output.

Both grow where learning rates are too high, long before the loss says so (arXiv 2309.14322).
Attention's are bounded by norms, |q·k| ≤ |q|·|k|, which no kernel has to give away and rotary
embeddings leave as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from train.cluster.distributed import World

# an attention layer's queries and keys, by the names of their layers; a norm after them comes first
_QUERIES = ("q_norm", "q_proj", "query")
_KEYS = ("k_norm", "k_proj", "key")
_FUSED = "c_attn"  # GPT-2's one layer for queries, keys and values, in this order


@dataclass(frozen=True)
class _Tap:
    """Where values come out whose size is watched.

    Args:
        name: of these values.
        layer: that gives them.
        head_size: for the norm of each head's; None for the size of each value itself.
        third: which third of what the layer gives they are; None takes it whole.
    """

    name: str
    layer: nn.Module
    head_size: int | None = None
    third: int | None = None


class LogitGrowth:
    """The largest logits over the forward passes that it watches.

    Args:
        module: the model.
        world: this rank.
        on: False watches nothing.
    """

    def __init__(self, module: nn.Module, world: World, on: bool) -> None:
        self._world = world
        self._largest: dict[str, Tensor] = {}
        self._taps: list[_Tap] = []
        self._scales: dict[str, float] = {}
        if on:
            self._find(module)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the forward passes inside; waits for no device."""
        self._largest = {}
        handles = [tap.layer.register_forward_hook(self._hook(tap)) for tap in self._taps]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def read(self) -> dict[str, Any]:
        """Return what was seen, over all ranks. Collective where anything is watched.

        Left out is what no pass has called. `attention_logit_bound` by layer: the largest norm of a
        query times that of a key, over the root of a head's size. `output_logit_max`: the largest
        logit, its sign aside.
        """
        names = [tap.name for tap in self._taps]
        if not names:
            return {}
        unseen = torch.zeros((), device=self._world.device)
        values = torch.stack([self._largest.get(name, unseen).float() for name in names])
        if self._world.size > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        # a compiled layer calls no hook, and has none here
        seen = {name: value for name, value in zip(names, values.tolist(), strict=True) if value}
        found: dict[str, Any] = {}
        bounds = {
            layer: seen[f"{layer}.q"] * seen[f"{layer}.k"] * scale
            for layer, scale in self._scales.items()
            if f"{layer}.q" in seen and f"{layer}.k" in seen
        }
        if bounds:
            found["attention_logit_bound"] = bounds
        if "output" in seen:
            found["output_logit_max"] = seen["output"]
        return found

    def _find(self, module: nn.Module) -> None:
        for name, layer in module.named_modules():
            fused = layer._modules.get(_FUSED)
            queries = fused or _first(layer, _QUERIES)
            keys = fused or _first(layer, _KEYS)
            size = getattr(layer, "head_dim", None) or getattr(layer, "attention_head_size", None)
            if queries is not None and keys is not None and isinstance(size, int):
                self._taps += [
                    _Tap(f"{name}.q", queries, size, None if fused is None else 0),
                    _Tap(f"{name}.k", keys, size, None if fused is None else 1),
                ]
                self._scales[name] = 1.0 / math.sqrt(size)
        head = getattr(module, "get_output_embeddings", lambda: None)()
        if isinstance(head, nn.Module):
            self._taps.append(_Tap("output", head))

    def _hook(self, tap: _Tap) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            values = output.detach()
            if tap.third is not None:
                values = values.chunk(3, dim=-1)[tap.third]
            if tap.head_size is None:
                found = values.abs().amax()
            else:
                found = values.unflatten(-1, (-1, tap.head_size)).float().norm(dim=-1).amax()
            before = self._largest.get(tap.name)
            self._largest[tap.name] = found if before is None else torch.maximum(before, found)

        return note


def _first(layer: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    """Return the first of a layer's own parts that has one of these names."""
    return next((part for name in names if (part := layer._modules.get(name)) is not None), None)
