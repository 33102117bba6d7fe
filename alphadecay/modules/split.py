"""A parameter's matrices: one, or one for each expert and for each part of a fused weight."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from alphadecay.modules.experts import expert_layout
from alphadecay.modules.fused import Layout, fused_layout, given_layout
from alphadecay.modules.sites import Site
from alphadecay.modules.weight import WeightModule, whole_shape

Splits = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class _Stack:
    """A parameter as a stack of matrices of one shape, with the axis of their outputs: 0 or 1."""

    site: Site
    experts: int
    rows: int
    columns: int
    axis: int
    layout: Layout | None


def split(site: Site, splits: Splits, published: bool = False) -> Iterator[WeightModule]:
    """Return the modules of a parameter, in the order of its experts and parts.

    Args: published: take the positions of a convolution's kernel apart.

    Raises:
        ValueError: a shape that is no stack of matrices, or a layout that is not known.
    """
    stack = _stack(site, splits)
    conv = len(whole_shape(site.parameter)) == 4
    for expert in range(stack.experts):
        label = str(expert) if len(whole_shape(site.parameter)) == 3 else ""
        if stack.layout is None:
            name = f"{site.name}[{label}]" if label else site.name
            rows = (expert * stack.rows, (expert + 1) * stack.rows)
            kernel = math.prod(whole_shape(site.parameter)[2:]) if published and conv else 1
            yield WeightModule(
                name, site.parameter, stack.columns, rows, (0, stack.columns), kernel=kernel
            )
            continue
        start = 0
        for part, size in stack.layout.parts.items():
            suffix = f"{label}.{part}" if label else part
            yield _part(f"{site.name}[{suffix}]", stack, expert, (start, start + size))
            start += size


def _stack(site: Site, splits: Splits) -> _Stack:
    shape = whole_shape(site.parameter)
    if len(shape) not in (2, 3, 4):
        raise ValueError(
            f"{site.name} has shape {list(shape)}; a module is a matrix [M, N], a stack of experts "
            "[E, M, N] or a convolution [O, I, kh, kw]"
        )
    experts = shape[0] if len(shape) == 3 else 1
    rows = shape[0] if len(shape) == 4 else shape[-2]
    columns = math.prod(shape) // max(1, experts * rows)
    axis = int(site.kind == "conv1d")
    layout: Layout | None = None
    sizes = next((s for pattern, s in splits.items() if fnmatchcase(site.name, pattern)), None)
    if len(shape) == 3:
        axis, layout = expert_layout(site, given=sizes is not None)
    elif sizes is None and site.kind in ("linear", "conv1d"):
        layout = fused_layout(site, (columns, rows)[axis])
    if sizes is not None:
        layout = given_layout(site.name, (rows, columns)[axis], sizes)
    if layout is not None and layout.repeat > 1:
        _refuse_column_shards(site)
    return _Stack(site, experts, rows, columns, axis, layout)


def _part(name: str, stack: _Stack, expert: int, outputs: tuple[int, int]) -> WeightModule:
    """Outputs [start, stop) of each period of one expert."""
    assert stack.layout is not None
    parameter = stack.site.parameter
    repeat = stack.layout.repeat
    start, stop = outputs
    first = expert * stack.rows
    last = first + stack.rows
    if repeat == 1 and stack.axis == 0:
        rows = (first + start, first + stop)
        return WeightModule(name, parameter, stack.columns, rows, (0, stack.columns))
    if repeat == 1:
        return WeightModule(name, parameter, stack.columns, (first, last), outputs)
    period = stack.layout.outputs // repeat
    if stack.axis == 0:
        rows = (expert * repeat, (expert + 1) * repeat)
        elements = (start * stack.columns, stop * stack.columns)
        length = period * stack.columns
        return WeightModule(name, parameter, length, rows, elements, stack.columns)
    rows = (first * repeat, last * repeat)
    return WeightModule(name, parameter, period, rows, outputs, (stop - start) * repeat)


def _refuse_column_shards(site: Site) -> None:
    """Refuse what alternates in shards of columns, where it cannot be found.

    Raises:
        ValueError: the parameter is sharded so.
    """
    placements = getattr(site.parameter, "placements", ())
    if any(getattr(placement, "dim", 0) == 1 for placement in placements):
        raise ValueError(
            f"{site.name} holds matrices that alternate, and is sharded by columns: shard it by "
            "rows (Shard(0)), or exclude it"
        )
