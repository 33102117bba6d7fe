"""The weights of a model that are measured, under the library's names, and why the others are not.

What AlphaDecay would decay by module is chosen by the library itself. Convolutions are measured
beside, each as the matrix [outputs, inputs·positions] that the library takes where it is asked to.

Shapes: weight_MN one matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby

from torch import Tensor, nn

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.models.names import is_known_linear
from alphadecay.inspect.models.quantised import quantised
from alphadecay.inspect.models.skeleton import MOST_PARTS, build_skeleton
from alphadecay.inspect.models.trained import as_trained
from alphadecay.inspect.module_names import layer_and_type
from alphadecay.inspect.sources import BrokenTensor, Source, StoredTensor
from alphadecay.modules import (
    NoModules,
    WeightModule,
    bare_name,
    choose_modules,
    is_exempt,
    named_parameters,
)
from alphadecay.modules.sites import Site, sites
from alphadecay.modules.split import split

ONE_MATRIX = "taken as one matrix, for how it divides is not known"
BY_SHAPE = "taken for its two axes: no linear layer is known by this name"
_PATTERN = frozenset("[]*?")
CONVOLUTION = "a convolution: AlphaDecay leaves it at the base decay unless include names it"


@dataclass(frozen=True)
class Weight:
    """This is one matrix that is measured.

    Args:
        module: where it lies in its tensor, and its name.
        tensor: what it lies in.
        takes_part: whether AlphaDecay gives it a decay of its own.
        note: what a reader should know of the choice; empty mostly.
    """

    module: WeightModule = field(repr=False)
    tensor: StoredTensor = field(repr=False)
    takes_part: bool = True
    note: str = ""

    @property
    def name(self) -> str:
        """The tensor's name, with the part in brackets where it is split."""
        return self.module.name

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.module.shape

    @property
    def layer(self) -> int:
        """The number of its layer; -1 where its name has none."""
        return layer_and_type(self.name)[0]

    @property
    def type(self) -> str:
        """What it is in its layer, such as "q"."""
        return layer_and_type(self.name)[1]


@dataclass(frozen=True)
class Weights:
    """These are the weights of a model.

    Args:
        measured: in the model's order.
        set_aside: weights that cannot be measured, and files that cannot be read -> why.
        left_out: what is not measured by rule: embeddings, heads, gains and biases -> why.
        warnings: sentences for the user.
    """

    measured: tuple[Weight, ...]
    set_aside: Mapping[str, str]
    left_out: Mapping[str, str]
    warnings: tuple[str, ...]


def find_weights(
    source: Source, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Weights:
    """Choose the weights of a model that is stored, or in memory.

    Args:
        include: shell patterns of names to take instead of the library's choice.
        exclude: shell patterns of names to leave out.

    Raises:
        InspectError: there is no weight, or a pattern matches none.
    """
    usable, set_aside, left_out = _sort_out(source)
    try:
        model = source.model or build_skeleton(usable, source.config)
        chosen = _choose(as_trained(model), include, exclude)
    except NoModules as error:
        if not set_aside:
            raise InspectError(_nothing(source)) from error
        return Weights((), set_aside, {**left_out, **error.reasons}, ())
    except ValueError as error:
        raise InspectError(str(error)) from error
    is_stored = source.model is None
    weights = [
        *(_weight(module, usable, _note(module, chosen, is_stored)) for module in chosen.modules),
        *(_weight(module, usable, CONVOLUTION, takes_part=False) for module in chosen.beside),
    ]
    order = {name: place for place, name in enumerate(named_parameters(model))}
    weights.sort(key=lambda weight: order[_parameter(weight.name)])
    measured = {_parameter(weight.name) for weight in weights}
    left_out |= {n: why for n, why in chosen.reasons.items() if n not in measured}
    return Weights(tuple(weights), set_aside, left_out, tuple(_warnings(weights, chosen)))


def _sort_out(source: Source) -> tuple[dict[str, StoredTensor], dict[str, str], dict[str, str]]:
    """Return the tensors that may hold weights by their bare names, and why the others do not: what
    is set aside, and what is no weight whatever its name.
    """
    reasons, belongs = quantised(source.tensors)
    set_aside = {**source.broken, **reasons}
    left_out = dict.fromkeys(sorted(belongs), "it belongs to a quantised weight")
    usable: dict[str, StoredTensor] = {}
    for name, tensor in source.tensors.items():
        if name in set_aside or name in left_out:
            continue
        if reason := _why_no_weight(tensor):
            left_out[name] = reason
        elif len(tensor.shape) > 1 and not _PATTERN.isdisjoint(name):
            set_aside[name] = f"its name holds one of {' '.join(sorted(_PATTERN))}; rename it"
        elif bare_name(name) in usable:
            set_aside[name] = "another tensor has its name, but for what wrappers put in front"
        else:
            usable[bare_name(name)] = tensor
    return usable, set_aside, left_out


def matrices(weights: Sequence[Weight]) -> Iterator[tuple[Weight, Tensor | BrokenTensor]]:
    """Yield every weight with its matrix [M, N], or with why it cannot be read; what several
    weights lie in is read once, and one tensor is in memory at a time.
    """
    for (_, elements), group in groupby(weights, _reading):
        members = list(group)
        flat: Tensor | BrokenTensor
        try:
            flat = members[0].tensor.read(elements)
        except BrokenTensor as error:
            flat = error
        for weight in members:
            yield weight, flat if isinstance(flat, BrokenTensor) else _matrix(weight, flat)
        del flat


def _matrix(weight: Weight, flat: Tensor) -> Tensor:
    """Return the matrix of a weight in what `_reading` says."""
    whole = not weight.tensor.in_ranges
    return weight.module.matrix(flat[slice(*weight.module.flat_range)] if whole else flat)


def _reading(weight: Weight) -> tuple[str, tuple[int, int] | None]:
    """Return what is read for a weight: of which tensor, and which elements; None for all."""
    return weight.tensor.name, weight.module.flat_range if weight.tensor.in_ranges else None


@dataclass(frozen=True)
class _Chosen:
    """This is what the library chose.

    Args:
        modules: those that get a decay of their own.
        beside: convolutions, which get none.
        reasons: every other parameter's name -> why it is none.
        undivided: weights that are taken as one matrix, for their layout is not known.
        warnings: sentences for the user.
    """

    modules: Sequence[WeightModule]
    beside: Sequence[WeightModule]
    reasons: Mapping[str, str]
    undivided: frozenset[str]
    warnings: Sequence[str] = ()


def _choose(model: nn.Module, include: Sequence[str], exclude: Sequence[str]) -> _Chosen:
    """Let the library choose; what it does not know is taken by its two axes.

    Raises:
        ValueError: there is no weight, or a pattern matches none.
    """
    every_site = list(sites(model))
    splits: dict[str, dict[str, int]] = {s.name: {} for s in every_site if not _divides(s)}
    rest = [
        site.name
        for site in every_site
        if site.kind == "convolution" and not include and not _matches(site.name, exclude)
    ]
    beside = choose_modules(model, rest).modules if rest else ()
    undivided = frozenset(splits)
    try:
        choice = choose_modules(model, include, exclude, splits)
    except NoModules as error:
        if beside:
            return _Chosen((), beside, error.reasons, undivided)
        tables = [s.name for s in every_site if _is_table(s) and not _matches(s.name, exclude)]
        if include or not tables:
            raise
        choice = choose_modules(model, tables, splits=splits)
        reasons = {name: error.reasons[name] for name in choice.reasons}
        return _Chosen(choice.modules, (), reasons, undivided)
    return _Chosen(choice.modules, beside, choice.reasons, undivided, choice.warnings)


def _divides(site: Site) -> bool:
    """Return whether it is known how a weight divides into matrices."""
    if site.kind not in ("linear", "conv1d", "experts"):
        return True
    try:
        list(split(site, {}))
    # a configuration of a stranger's may hold anything
    except (ValueError, TypeError, AttributeError, ZeroDivisionError):
        return False
    return True


def _is_table(site: Site) -> bool:
    """Return whether a parameter of no known layer is a matrix."""
    known = site.kind is not None or isinstance(site.layer, nn.Embedding)
    return not known and site.parameter.dim() == 2 and not is_exempt(site.name, site.parameter)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _why_no_weight(tensor: StoredTensor) -> str:
    """Return why a tensor cannot be a weight, whatever its name; empty where it may be one."""
    if tensor.name.count(".") >= MOST_PARTS:
        return "its name has more parts than a model's"
    if tensor.dtype is None or not tensor.dtype.is_floating_point:
        return "it holds no real floats"
    return "" if tensor.count else "it is empty"


def _weight(
    module: WeightModule, tensors: Mapping[str, StoredTensor], note: str, takes_part: bool = True
) -> Weight:
    return Weight(module, tensors[_parameter(module.name)], takes_part, note)


def _parameter(name: str) -> str:
    """Return the name of the tensor that a matrix lies in."""
    return name.partition("[")[0]


def _note(module: WeightModule, chosen: _Chosen, is_stored: bool) -> str:
    parameter = _parameter(module.name)
    if parameter in chosen.undivided:
        return ONE_MATRIX
    known = is_known_linear(parameter.removesuffix(".weight"))
    plain = module.parameter.dim() == 2 and parameter == module.name
    return BY_SHAPE if is_stored and plain and not known else ""


def _warnings(weights: Sequence[Weight], chosen: _Chosen) -> Iterator[str]:
    yield from chosen.warnings
    for note in (ONE_MATRIX, BY_SHAPE):
        names = [weight.name for weight in weights if weight.note == note]
        if names:
            subject = "1 weight is" if len(names) == 1 else f"{len(names)} weights are"
            yield f"{subject} {note}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"


def _nothing(source: Source) -> str:
    return (
        f"{source.place} holds {len(source.tensors)} tensors, and none of them is a linear weight, "
        "a convolution or a matrix of real floats; --include names others"
    )
