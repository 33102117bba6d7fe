"""Which module owns which range of the tensors an optimizer updates, and the decay applied to those
ranges.

An optimizer under DeepSpeed updates flat float32 partitions that hold pieces of many parameters. A
`Span` says which piece lies where; `Fragments` cuts spans along module borders and scales each cut
by its own decay. One group, any number of decays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay.modules import WeightModule, whole_shape

# where a param group keeps its base decay once AlphaDecay has taken weight_decay over
BASE_KEY = "base_weight_decay"


@dataclass(frozen=True)
class Span:
    """A run of one parameter's elements inside a tensor that an optimizer updates.

    Args:
        parameter: the model's parameter.
        start: first element of the run in the row-major parameter.
        length: elements in the run.
        tensor: what the optimizer updates: the parameter itself or a flat partition.
        offset: where the run begins in the flattened tensor.
        weight_decay: base decay of the parameter's group.
        columns: where the tensor holds these columns [first, last) of all rows instead of a run
            (Shard(1)); else None.
    """

    parameter: nn.Parameter
    start: int
    length: int
    tensor: Tensor
    offset: int
    weight_decay: float
    columns: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Cut:
    """A strided block of a flat tensor: `count` runs of `length` elements, `stride` apart, that
    share one decay.
    """

    key: str
    offset: int
    length: int
    count: int = 1
    stride: int = 0

    def view(self, flat: Tensor) -> Tensor:
        if self.count == 1:
            return flat.narrow(0, self.offset, self.length)
        return flat.as_strided(
            (self.count, self.length), (self.stride, 1), flat.storage_offset() + self.offset
        )


@dataclass
class _Bound:
    """One optimizer tensor with its cuts; the views are made again when the tensor's storage has
    moved.
    """

    tensor: Tensor
    cuts: list[_Cut]
    address: int = -1
    views: list[Tensor] = field(default_factory=list)

    @cached_property
    def whole(self) -> bool:
        """Whether one decay holds for the whole tensor. Asked when all cuts are there."""
        return (
            len(self.cuts) == 1
            and self.cuts[0].length * self.cuts[0].count == local_tensor(self.tensor).numel()
        )

    def current_views(self) -> list[Tensor]:
        """Of the tensor, by cut."""
        local = local_tensor(self.tensor)
        if local.data_ptr() != self.address:
            self.views = self._views(local.detach())
            self.address = local.data_ptr()
        return self.views

    def gradients(self) -> list[Tensor]:
        """Views of the gradient, by cut."""
        assert self.tensor.grad is not None
        return self._views(local_tensor(self.tensor.grad))

    def _views(self, local: Tensor) -> list[Tensor]:
        if self.whole:
            return [local]
        flat = local.view(-1)
        return [cut.view(flat) for cut in self.cuts]


EXEMPT = "exempt"  # the key of what is not decayed


class Fragments:
    """Every range of an optimizer's tensors, and the decay of each.

    Args:
        modules: the modules, disjoint.
        spans: where the parameters lie; what no module covers takes its group's base decay.
        exempt: parameters without decay.

    Attributes:
        before: called with the param groups before a step's decay, while the gradients are there;
            may set decays.
        per_element: module name -> decays of a fragment's elements from its gradients, in the place
            of the module's one decay.
    """

    def __init__(
        self,
        modules: Sequence[WeightModule],
        spans: Iterable[Span],
        exempt: Iterable[nn.Parameter] = (),
    ) -> None:
        by_parameter: dict[int, list[WeightModule]] = {}
        for module in modules:
            by_parameter.setdefault(id(module.parameter), []).append(module)
        exempted = {id(parameter) for parameter in exempt}
        self.base: dict[str, float] = {}
        self.elements: dict[str, int] = {module.name: 0 for module in modules}
        self.before: Callable[[Sequence[Mapping[str, Any]]], None] | None = None
        self.per_element: dict[str, Callable[[Tensor], Tensor]] = {}
        self._decays: dict[str, float] = {EXEMPT: 0.0}
        self._bound: dict[int, _Bound] = {}
        for span in spans:
            bound = self._bound.setdefault(id(span.tensor), _Bound(span.tensor, []))
            owned = by_parameter.get(id(span.parameter), [])
            for module in owned:
                self.base[module.name] = span.weight_decay
            if not owned:
                key = EXEMPT if id(span.parameter) in exempted else f"base {span.weight_decay!r}"
                self._decays[key] = 0.0 if key == EXEMPT else span.weight_decay
                bound.cuts.extend([_Cut(key, span.offset, span.length)] * bool(span.length))
            for module in owned:
                cuts = [cut for cut in _cut(module, span) if cut.length]
                self.elements[module.name] += sum(cut.length * cut.count for cut in cuts)
                bound.cuts.extend(cuts)

    def set_weight_decays(self, decays: Mapping[str, float]) -> None:
        """Takes the modules' decays; they hold from the next step on."""
        self._decays.update(decays)

    def set_uniform(self, weight_decay: float) -> None:
        """One decay for everything that is decayed, modules or not."""
        self._decays = {key: 0.0 if key == EXEMPT else weight_decay for key in self._decays}

    @property
    def keys(self) -> list[str]:
        """Every module's name and the keys of everything else: the same on every rank, whatever it
        holds.
        """
        return sorted({*self.elements, *self._decays})

    def sums(self, param_groups: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Of this rank's fragments, by key: [sum |g|, sum g², sum w²] in float64, of tensors that
        have a gradient.
        """
        found: dict[str, Tensor] = {}
        for _, bound in self._active(param_groups):
            for cut, weight, gradient in zip(
                bound.cuts, bound.current_views(), bound.gradients(), strict=True
            ):
                norms = [_norm(gradient, 1), _norm(gradient, 2).square(), _norm(weight, 2).square()]
                found[cut.key] = (
                    found[cut.key] + torch.stack(norms) if cut.key in found else torch.stack(norms)
                )
        return found

    def prepare(self, param_groups: Sequence[Mapping[str, Any]]) -> None:
        """Once before a step's decay, while its gradients are there."""
        if self.before is not None:
            self.before(param_groups)

    def by_decay(self, param_groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The groups cut into one per decay, for an optimizer that decays as it updates.

        Of whole tensors that are updated one by one, on a CPU. Those with several decays, or one
        per element, stay in a group with none, for `apply`, and so do all where a kernel takes many
        tensors at once, of which it would need one call per decay.
        """
        groups = []
        for group in param_groups:
            cut: dict[float, list[Tensor]] = {}
            for tensor in group["params"]:
                cut.setdefault(
                    0.0 if group.get("foreach") else self._whole_decay(tensor), []
                ).append(tensor)
            groups += (
                [group]
                if list(cut) == [0.0]
                else [{**group, "params": t, "weight_decay": d} for d, t in cut.items()]
            )
        return groups

    def _whole_decay(self, tensor: Tensor) -> float:
        bound = self._bound.get(id(tensor))
        if (
            bound is None
            or not bound.whole
            or tensor.device.type != "cpu"
            or bound.cuts[0].key in self.per_element
        ):
            return 0.0
        return self._decays[bound.cuts[0].key]

    def apply(self, param_groups: Sequence[Mapping[str, Any]], decoupled: bool) -> None:
        """Decays every fragment of every tensor that has a gradient, in groups whose own
        weight_decay is 0.

        Args:
            decoupled: w ← (1 − lr·λ_m)·w (AdamW's decay, arXiv 1711.05101); else g ← g + λ_m·w (an
                L2 penalty).

        Raises:
            ValueError: a tensor came to the optimizer after its decay was taken over.
        """
        groups = [group for group in param_groups if not group["weight_decay"]]
        (self._shrink if decoupled else self._penalise)(groups)

    def _shrink(self, param_groups: Sequence[Mapping[str, Any]]) -> None:
        for group, bound in self._active(param_groups):
            lr = float(group["lr"])
            views = []
            factors = []
            # looked at for decays per element alone
            gradients = bound.gradients() if self.per_element else bound.current_views()
            for cut, view, gradient in zip(
                bound.cuts, bound.current_views(), gradients, strict=True
            ):
                decay = self._decays[cut.key]
                if cut.key in self.per_element:
                    view.mul_(1.0 - lr * self.per_element[cut.key](gradient))
                elif decay:
                    views.append(view)
                    factors.append(1.0 - lr * decay)
            if views:
                torch._foreach_mul_(views, factors)

    def _penalise(self, param_groups: Sequence[Mapping[str, Any]]) -> None:
        for group, bound in self._active(param_groups):
            # the optimizer turns the gradient round before it would add its own
            sign = -1.0 if group.get("maximize") else 1.0
            for cut, weight, gradient in zip(
                bound.cuts, bound.current_views(), bound.gradients(), strict=True
            ):
                decay = self._decays[cut.key]
                if cut.key in self.per_element:
                    gradient.add_(weight * self.per_element[cut.key](gradient), alpha=sign)
                elif decay:
                    gradient.add_(weight.to(gradient.dtype), alpha=sign * decay)

    def _active(
        self, param_groups: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[Mapping[str, Any], _Bound]]:
        """(group, bound tensor) of what this step updates.

        Read at step time: ZeRO-3 swaps sub-groups in and out.
        """
        for group in param_groups:
            for tensor in group["params"]:
                if tensor.grad is None:
                    continue
                if id(tensor) not in self._bound:
                    raise ValueError(
                        f"a parameter of shape {list(tensor.shape)} came to the optimizer after "
                        "its decay was taken over, and has none: "
                        "make AlphaDecay after the last add_param_group"
                    )
                yield group, self._bound[id(tensor)]


def _norm(values: Tensor, order: int) -> Tensor:
    return torch.linalg.vector_norm(values, order, dtype=torch.float64)


def local_tensor(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor: a DTensor's shard, any other tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _cut(module: WeightModule, span: Span) -> Iterator[_Cut]:
    """The part of a span that belongs to a module.

    Whole rows are one run; a block of columns is a head, a body and a tail.
    """
    if span.columns is not None:
        held = span.columns[1] - span.columns[0]
        low = max(module.columns[0], span.columns[0])
        high = min(module.columns[1], span.columns[1])
        if high > low:
            yield _Cut(
                module.name,
                module.rows[0] * held + low - span.columns[0],
                high - low,
                module.rows[1] - module.rows[0],
                held,
            )
        return
    low = max(module.flat_range[0], span.start)
    high = min(module.flat_range[1], span.start + span.length)
    if low >= high:
        return
    shift = span.offset - span.start
    width = module.row_length
    first, last = module.columns
    if last - first == width:
        yield _Cut(module.name, low + shift, high - low)
        return
    body = -(-low // width)
    end = high // width
    for row in {low // width, end} - set(range(body, end)):
        start = max(low, row * width + first)
        stop = min(high, row * width + last)
        yield _Cut(module.name, start + shift, max(0, stop - start))
    if end > body:
        yield _Cut(module.name, body * width + first + shift, last - first, end - body, width)


def base_weight_decay(group: Mapping[str, Any]) -> float:
    """A param group's base decay, whether or not AlphaDecay has taken it over."""
    return float(group.get("weight_decay", 0.0) or group.get(BASE_KEY, 0.0))


def exempt_parameters(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Norm gains and biases: parameters with fewer than two axes, which the default mode does not
    decay.
    """
    return [parameter for parameter in parameters if len(whole_shape(parameter)) < 2]
