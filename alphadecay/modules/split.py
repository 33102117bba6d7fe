"""Divide a parameter into its matrices: one for each expert and each part of a fused weight."""

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
    """This is a parameter as a stack of matrices of one shape.

    Args:
        site: the parameter in its place.
        labels: of the matrices, such as the number of an expert; one empty label for one matrix.
        shape: rows and columns of each.
        axis: of the outputs in that shape.
        layout: how the outputs divide; None for one matrix.
        kernel: positions of a convolution's kernel to take apart.
    """

    site: Site
    labels: tuple[str, ...]
    shape: tuple[int, int]
    axis: int
    layout: Layout | None
    kernel: int = 1


def split(site: Site, splits: Splits, published: bool = False) -> Iterator[WeightModule]:
    """Return the modules of a parameter, in the order of its experts and parts.

    Args: published: take the positions of a convolution's kernel apart.

    Raises:
        ValueError: a shape that is no stack of matrices, or a layout that is not known.
    """
    stack = _stack(site, splits, published)
    for index, label in enumerate(stack.labels):
        if stack.layout is None:
            yield _whole(stack, index, f"{site.name}[{label}]" if label else site.name)
            continue
        start = 0
        for part, size in stack.layout.parts.items():
            suffix = f"{label}.{part}" if label else part
            yield _part(stack, index, f"{site.name}[{suffix}]", (start, start + size))
            start += size


def _stack(site: Site, splits: Splits, published: bool) -> _Stack:
    shape = whole_shape(site.parameter)
    if site.kind == "convolution":
        flat = (shape[0], math.prod(shape[1:]))
        return _Stack(site, ("",), flat, 0, None, math.prod(shape[2:]) if published else 1)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"{site.name} has shape {list(shape)}; a module is a matrix [M, N], a stack of experts "
            "[E, M, N] or a convolution's weight"
        )
    rows, columns = shape[-2:]
    labels = tuple(map(str, range(shape[0]))) if len(shape) == 3 else ("",)
    sizes = next((s for pattern, s in splits.items() if fnmatchcase(site.name, pattern)), None)
    axis = int(site.kind == "conv1d")
    layout: Layout | None = None
    if len(shape) == 3:
        axis, layout = expert_layout(site, given=sizes is not None)
    elif sizes is None and site.kind is not None:
        layout = fused_layout(site, (columns, rows)[axis])
    if sizes is not None:
        layout = given_layout(site.name, (rows, columns)[axis], sizes)
    if layout is not None and layout.repeat > 1:
        _refuse_column_shards(site)
    return _Stack(site, labels, (rows, columns), axis, layout)


def _whole(stack: _Stack, index: int, name: str) -> WeightModule:
    """Return one matrix of the stack, undivided."""
    rows, columns = stack.shape
    span = (index * rows, (index + 1) * rows)
    whole = (0, columns)
    return WeightModule(name, stack.site.parameter, columns, span, whole, kernel=stack.kernel)


def _part(stack: _Stack, index: int, name: str, outputs: tuple[int, int]) -> WeightModule:
    """Return outputs [start, stop) of each period of one matrix of the stack."""
    assert stack.layout is not None
    parameter = stack.site.parameter
    repeat = stack.layout.repeat
    period = stack.layout.outputs // repeat
    start, stop = outputs
    rows, columns = stack.shape
    first = index * rows
    if stack.axis == 0 and repeat == 1:
        return WeightModule(name, parameter, columns, (first + start, first + stop), (0, columns))
    if stack.axis == 0:
        periods = (index * repeat, (index + 1) * repeat)
        elements = (start * columns, stop * columns)
        return WeightModule(name, parameter, period * columns, periods, elements, columns)
    periods = (first * repeat, (first + rows) * repeat)
    width = 0 if repeat == 1 else (stop - start) * repeat
    return WeightModule(name, parameter, period, periods, outputs, width)


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
