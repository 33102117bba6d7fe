"""Which weights are modules: one linear weight matrix each, by name; splits of fused weights;
experts.

Shapes: M rows, N columns, E experts. A parameter that ZeRO-3 has partitioned has shape (0,); its
    whole shape is `ds_shape`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

_WRAPPER_PARTS = re.compile(
    r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_HEAD_NAMES = frozenset(
    {"lm_head", "embed_out", "output_projection", "classifier", "score", "qa_outputs"}
)
# Fused weights that transformers builds: (pattern of the parameter's name, axis of the outputs,
# parts).
_FUSED = (
    ("*attn.c_attn.weight", 1, ("q", "k", "v")),
    ("*gate_up_proj.weight", 0, ("gate", "up")),
    ("*experts.gate_up_proj", 0, ("gate", "up")),
)
_CONV1D = "Conv1D"  # transformers' GPT-2 layer: a linear weight stored [in, out]


@dataclass(frozen=True, eq=False)
class WeightModule:
    """One matrix whose spectrum sets one decay: a parameter, or a named block of rows and columns
    of it.

    Args:
        name: the parameter's name in the bare model, with the part in brackets where it is split.
        parameter: the parameter, whole, partitioned or sharded.
        row_length: columns of the parameter's rows, in elements.
        rows: first and last row + 1, counted over the flattened leading axes (experts stacked
            first).
        columns: first and last column + 1.
    """

    name: str
    parameter: nn.Parameter
    row_length: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(M, N) of the matrix."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    @property
    def flat_range(self) -> tuple[int, int]:
        """Elements [start, stop) of the row-major parameter that hold the matrix; whole rows."""
        return self.rows[0] * self.row_length, self.rows[1] * self.row_length

    def matrix(self, flat: Tensor) -> Tensor:
        """The matrix [M, N] in the elements of `flat_range`, shape [stop - start]."""
        return flat.view(-1, self.row_length)[:, self.columns[0] : self.columns[1]]


def whole_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """The parameter's shape before any sharding (ZeRO-3 keeps it as `ds_shape`; a DTensor's shape
    is global already).
    """
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def bare_name(name: str) -> str:
    """A parameter's name in the bare model: without what DDP, torch.compile, FSDP1 and checkpoint
    wrappers put in.
    """
    return _WRAPPER_PARTS.sub("", name)


def named_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Bare name -> parameter, tied parameters once, in the model's order."""
    return {bare_name(name): parameter for name, parameter in model.named_parameters()}


def find_modules(
    model: nn.Module,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    splits: Mapping[str, Mapping[str, int]] | None = None,
    drop_first: bool = False,
) -> list[WeightModule]:
    """The modules of `model`, in the model's order.

    By default every trainable 2-D weight of a linear layer (`nn.Linear`, transformers' `Conv1D`)
    and every [E, M, N] stack of experts; embeddings and the output head stay out, tied weights
    count once.

    Args:
        include: shell patterns of parameter names to take instead of the default choice (2-D or [E,
            M, N]).
        exclude: shell patterns of parameter names to leave out.
        splits: pattern -> {part: rows}, in row order, for fused weights; the parts must add up to
            the weight's rows.
        drop_first: leave out the first `nn.Linear`, as the published code does.

    Raises:
        ValueError: a pattern matches no parameter, a split does not add up, or no module is left.
    """
    parameters = {name: p for name, p in named_parameters(model).items() if p.requires_grad}
    for pattern in (*include, *exclude, *(splits or {})):
        _require_match(pattern, parameters)
    linear = dict(_linear_weights(model))
    chosen = [
        name
        for name in parameters
        if (_matches(name, include) if include else name in linear) and not _matches(name, exclude)
    ]
    if drop_first and chosen:
        first = next((name for name in chosen if linear.get(name) == "Linear"), None)
        chosen = [name for name in chosen if name != first]
    modules = [
        m for name in chosen for m in _split(name, parameters[name], splits or {}, linear.get(name))
    ]
    if not modules:
        raise ValueError(
            f"{type(model).__name__} has no linear weight to decay by module; name some with "
            "include=[...]"
        )
    return modules


def _linear_weights(model: nn.Module) -> Iterator[tuple[str, str]]:
    """(bare name, kind) of every weight that counts by default."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    embedded = {
        id(p)
        for layer in model.modules()
        if isinstance(layer, nn.Embedding)
        for p in layer.parameters(recurse=False)
    }
    for path, layer in model.named_modules():
        is_linear = isinstance(layer, nn.Linear)
        if layer is head or path.rpartition(".")[2] in _HEAD_NAMES:
            continue
        for name, parameter in layer.named_parameters(recurse=False):
            full = bare_name(f"{path}.{name}" if path else name)
            dims = len(whole_shape(parameter))
            if id(parameter) in embedded:
                continue
            if name == "weight" and dims == 2 and (is_linear or type(layer).__name__ == _CONV1D):
                yield full, "Linear" if is_linear else _CONV1D
            elif dims == 3 and "experts" in full:
                yield full, "experts"


def _split(
    name: str, parameter: nn.Parameter, splits: Mapping[str, Mapping[str, int]], kind: str | None
) -> Iterator[WeightModule]:
    """The parameter as one module, or one per expert and per named part."""
    shape = whole_shape(parameter)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"{name} has shape {list(shape)}; a module is a matrix [M, N] or a stack of experts "
            "[E, M, N]"
        )
    m, n = shape[-2:]
    axis, parts = _parts(name, m, n, splits, kind)
    for expert in range(shape[0] if len(shape) == 3 else 1):
        label = f"{expert}" if len(shape) == 3 else ""
        start = 0
        for part, size in parts.items():
            suffix = ".".join(x for x in (label, part) if x)
            rows = (start, start + size) if axis == 0 else (0, m)
            columns = (start, start + size) if axis == 1 else (0, n)
            first = expert * m
            yield WeightModule(
                f"{name}[{suffix}]" if suffix else name,
                parameter,
                n,
                (first + rows[0], first + rows[1]),
                columns,
            )
            start += size


def _parts(
    name: str, m: int, n: int, splits: Mapping[str, Mapping[str, int]], kind: str | None
) -> tuple[int, dict[str, int]]:
    """Axis that is split, and {part: size along it}; one unnamed part where nothing is split."""
    for pattern, sizes in splits.items():
        if fnmatchcase(name, pattern):
            axis, size = (1, n) if kind == _CONV1D else (0, m)
            if sum(sizes.values()) != size or min(sizes.values()) < 1:
                raise ValueError(
                    f"split of {name}: {dict(sizes)} adds up to {sum(sizes.values())}, the weight "
                    f"has {size} outputs"
                )
            return axis, dict(sizes)
    for pattern, axis, parts in _FUSED:
        size = (m, n)[axis]
        if (
            fnmatchcase(name, pattern)
            and size % len(parts) == 0
            and (axis == 0) == (kind != _CONV1D)
        ):
            return axis, dict.fromkeys(parts, size // len(parts))
    return 0, {"": m}


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _require_match(pattern: str, names: Mapping[str, object]) -> None:
    if not any(fnmatchcase(name, pattern) for name in names):
        near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.3)
        hint = f"; the nearest name is {near[0]!r}" if near else ""
        raise ValueError(f"pattern {pattern!r} matches no trainable parameter of the model{hint}")
