"""Choose the modules of a model, with a reason for every weight that is none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from alphadecay.modules.experts import refuse_experts_of_ranks
from alphadecay.modules.fused import perhaps_fused
from alphadecay.modules.head import embedding_parameters, head_parameters, perhaps_head
from alphadecay.modules.sites import Site, refuse_hidden_weights, sites
from alphadecay.modules.split import Splits, split
from alphadecay.modules.weight import (
    WeightModule,
    is_exempt,
    named_parameters,
    refuse_complex,
    whole_shape,
)

_FROZEN = "it is not trained"


class NoModules(ValueError):
    """No weight of a model is a module.

    Args:
        message: for the user.
        reasons: every parameter's name -> why it is none.
    """

    def __init__(self, message: str, reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.reasons = reasons


@dataclass(frozen=True)
class Choice:
    """This holds the modules of a model, and why its other weights are none.

    Args:
        modules: in the model's order.
        reasons: every other parameter's name -> why it is no module, as a clause.
        shapes: every parameter's name -> whole shape.
        exempt: names of the gains and biases among them.
        frozen: linear weights among them that were not trained, by name.
        ends: trained embeddings and output head among them, by name.
        warnings: sentences for the user.
    """

    modules: tuple[WeightModule, ...]
    reasons: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    exempt: frozenset[str]
    frozen: Mapping[str, nn.Parameter]
    ends: Mapping[str, nn.Parameter]
    warnings: tuple[str, ...]

    @property
    def thawed(self) -> list[str]:
        """Return the names of the frozen weights that are trained by now."""
        return [name for name, parameter in self.frozen.items() if parameter.requires_grad]


def find_modules(
    model: nn.Module,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    splits: Splits | None = None,
    published: bool = False,
) -> list[WeightModule]:
    """Return the modules of `choose_modules`."""
    return list(choose_modules(model, include, exclude, splits, published).modules)


def choose_modules(
    model: nn.Module,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    splits: Splits | None = None,
    published: bool = False,
) -> Choice:
    """Choose the modules of `model`, in the model's order.

    By default every trainable 2-D weight of a linear layer (`nn.Linear`, transformers' `Conv1D`,
    the projections of `nn.MultiheadAttention`) and every [E, M, N] stack of experts; embeddings and
    the output head stay out, tied weights count once. Fused weights are split.

    Args:
        include: shell patterns of parameter names to take instead of the default choice: [M, N],
            [E, M, N], or the [O, I, ...] of a convolution, taken as [O, I·kh·kw].
        exclude: shell patterns of parameter names to leave out.
        splits: pattern -> {part: outputs}, in order, for fused weights; the parts must add up to
            the weight's outputs. "repeat" among them says how often they come, where they
            alternate; no parts at all take the weight as one matrix.
        published: as the published code: the first `nn.Linear` is left out, `nn.Conv2d` taken in.

    Raises:
        NoModules: no module is left.
        ValueError: a pattern matches no parameter, a split does not add up or is unknown, a weight
            has no values to measure, or names collide.
    """
    if isinstance(include, str) or isinstance(exclude, str):
        raise ValueError(f"include={include!r}, exclude={exclude!r}: write a list of patterns")
    parameters = named_parameters(model)
    trainable = {name: p for name, p in parameters.items() if p.requires_grad}
    for pattern in (*include, *exclude, *(splits or {})):
        _require_match(pattern, trainable)
    refuse_hidden_weights(model, frozenset(n for n in trainable if _matches(n, exclude)))
    every_site = list(sites(model))
    reasons = _reasons(model, every_site, include, exclude, published)
    taken = [site for site in every_site if site.name not in reasons]
    modules: list[WeightModule] = []
    for site in taken:
        refuse_complex(site.name, site.parameter)
        refuse_experts_of_ranks(site)
        modules += split(site, splits or {}, published)
    if not modules:
        raise NoModules(
            f"{type(model).__name__} has no linear weight to decay by module; name some with "
            "include=[...]",
            reasons,
        )
    shapes = {name: whole_shape(p) for name, p in parameters.items()}
    chosen = {site.name for site in taken}
    exempt = frozenset(n for n, p in parameters.items() if n not in chosen and is_exempt(n, p))
    frozen = {s.name: s.parameter for s in every_site if reasons.get(s.name) == _FROZEN}
    at_ends = embedding_parameters(model) | head_parameters(model, every_site)
    left = trainable.keys() - chosen - exempt
    ends = {name: p for name, p in trainable.items() if name in left and id(p) in at_ends}
    warnings = tuple(_warnings(model, taken, splits or {}))
    return Choice(tuple(modules), reasons, shapes, exempt, frozen, ends, warnings)


def find_head(model: nn.Module, modules: Sequence[WeightModule] = ()) -> list[WeightModule]:
    """Return the output head as a module, tied to the embedding or not; nothing where the model has
    none that is trained, or it is among the modules already.
    """
    every_site = list(sites(model))
    head = head_parameters(model, every_site)
    head -= {id(module.parameter) for module in modules}
    found = []
    for site in every_site:
        parameter = site.parameter
        shape = whole_shape(parameter)
        if id(parameter) in head and parameter.requires_grad and len(shape) == 2:
            rows, columns = shape
            found.append(WeightModule(site.name, parameter, columns, (0, rows), (0, columns)))
    return found


def _reasons(
    model: nn.Module,
    every_site: Sequence[Site],
    include: Sequence[str],
    exclude: Sequence[str],
    published: bool,
) -> dict[str, str]:
    """Return why each parameter that is no module is none."""
    embedded = embedding_parameters(model)
    head = head_parameters(model, every_site)
    reasons = {}
    for site in every_site:
        reason = _left_by_user(site, include, exclude)
        if not reason and not include:
            reason = _left_by_default(site, embedded, head, published)
        if not reason and not site.parameter.requires_grad:
            reason = _FROZEN
        if reason:
            reasons[site.name] = reason
    linear = [s.name for s in every_site if isinstance(s.layer, nn.Linear) and s.kind == "linear"]
    first = next((name for name in linear if name not in reasons), None)
    if published and first is not None:
        reasons[first] = "the published code drops the first Linear"
    return reasons


def _left_by_user(site: Site, include: Sequence[str], exclude: Sequence[str]) -> str:
    if include and not _matches(site.name, include):
        return "include does not name it"
    return "exclude names it" if _matches(site.name, exclude) else ""


def _left_by_default(site: Site, embedded: set[int], head: set[int], published: bool) -> str:
    if id(site.parameter) in embedded:
        return "it is an embedding"
    if id(site.parameter) in head:
        return "it is the output head"
    if is_exempt(site.name, site.parameter):
        return "it is a gain or a bias"
    if site.kind is None:
        return "it is no linear weight; include=[...] takes it"
    if site.kind == "convolution" and not (published and isinstance(site.layer, nn.Conv2d)):
        return "it is a convolution; include=[...] takes it"
    return ""


def _warnings(model: nn.Module, taken: Sequence[Site], splits: Splits) -> Iterator[str]:
    untold = [site for site in taken if site.kind == "linear" and not _matches(site.name, splits)]
    fused = (sentence for site in untold if (sentence := perhaps_fused(site)))
    yield from filter(None, [perhaps_head(model, taken), next(fused, "")])


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _require_match(pattern: str, names: Mapping[str, object]) -> None:
    if any(fnmatchcase(name, pattern) for name in names):
        return
    near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.3)
    hint = f"; the nearest name is {near[0]!r}" if near else ""
    raise ValueError(f"pattern {pattern!r} matches no trainable parameter of the model{hint}")
