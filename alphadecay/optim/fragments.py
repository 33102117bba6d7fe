"""Which module owns which range of the tensors an optimizer updates, and the decay applied to those
ranges.

An optimizer under DeepSpeed updates flat float32 partitions that hold pieces of many parameters. A
`Span` says which piece lies where; `Fragments` cuts spans along module borders and scales each cut
by its own ratio of the group's decay. One group, any number of decays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay.modules import WeightModule
from alphadecay.optim.arithmetic import (
    add_scaled,
    amount_of,
    kind_of,
    rate_of,
    refuse_coarse,
    sum_pieces,
)
from alphadecay.optim.cautious import CautiousDecay
from alphadecay.optim.copies import chunks
from alphadecay.optim.cuts import Bound, Cut, cuts_of
from alphadecay.optim.norms import NormRule
from alphadecay.optim.rates import ModuleRates
from alphadecay.optim.starting_weights import StartingWeights
from alphadecay.sharding.base import Span

# (param group, its weight decay at this step)
Held = Sequence[tuple[Mapping[str, Any], float]]
EXEMPT = "exempt"  # the key of what is not decayed
ENDS = "ends"  # the key of embeddings and the output head, which decay as their group says
REST = "rest"  # the key of what else does


class Fragments:
    """Every range of an optimizer's tensors, and the ratio of its group's decay that each gets.

    Args:
        modules: the modules, disjoint.
        spans: where the parameters lie; what no module covers takes its group's own decay.
        exempt: parameters without decay.
        ends: embeddings and the output head, where these have a learning rate of their own.

    Attributes:
        elements: module name -> elements of it in these tensors.
        parameters: the model's parameters that lie here.
        before: called with the param groups before a step's decay, while the gradients are there;
            may set ratios.
        per_element: module name -> ratios of a fragment's elements from its gradients, in the place
            of the module's one ratio.
        cautious: decays after the step, and only where it does not oppose it; None decays before
            it, everywhere.
        start: what the modules decay towards, before the step; None is zero.
        rates: gives each module its own learning rate; None leaves them to the groups.
        norms: holds the modules' norms around the step; None leaves them to it.
    """

    def __init__(
        self,
        modules: Sequence[WeightModule],
        spans: Iterable[Span],
        exempt: Iterable[nn.Parameter] = (),
        ends: Iterable[nn.Parameter] = (),
    ) -> None:
        by_parameter: dict[int, list[WeightModule]] = {}
        for module in modules:
            by_parameter.setdefault(id(module.parameter), []).append(module)
        keys = {id(parameter): ENDS for parameter in ends}
        keys |= {id(parameter): EXEMPT for parameter in exempt}
        # module -> a tensor that holds it, and the group that held that at first
        self._homes: dict[str, tuple[Tensor, int]] = {}
        self.elements: dict[str, int] = {module.name: 0 for module in modules}
        self.parameters: list[nn.Parameter] = []
        self.before: Callable[[Held], None] | None = None
        self.per_element: dict[str, Callable[[Tensor], Tensor]] = {}
        self.cautious: CautiousDecay | None = None
        self.start: StartingWeights | None = None
        self.norms: NormRule | None = None
        self.rates: ModuleRates | None = None
        self._ratios: dict[str, float] = {EXEMPT: 0.0, ENDS: 1.0, REST: 1.0}
        self.bounds: dict[int, Bound] = {}  # by the id of the tensor
        self._trained: dict[int, tuple[Bound, int]] = {}
        for span in spans:
            bound = self.bounds.setdefault(id(span.tensor), Bound(span.tensor))
            bound.elements += span.length
            self.parameters.append(span.parameter)
            if span.parameter.requires_grad:
                self._trained[id(span.tensor)] = (bound, span.group)
            owned = by_parameter.get(id(span.parameter), [])
            if not owned and span.length:
                key = keys.get(id(span.parameter), REST)
                bound.cuts.append(Cut(key, span.offset, span.length))
            for module in owned:
                self._homes[module.name] = (span.tensor, span.group)
                self._ratios[module.name] = 1.0
                cuts = [cut for cut in cuts_of(module, span) if cut.length]
                self.elements[module.name] += sum(cut.length * cut.count for cut in cuts)
                bound.cuts.extend(cuts)

    @property
    def keys(self) -> list[str]:
        """Every module's name and the keys of everything else: the same on every rank, whatever it
        holds.
        """
        return [*self.elements, EXEMPT, ENDS, REST]

    @property
    def tensors(self) -> list[Tensor]:
        """What the optimizer updates."""
        return [bound.tensor for bound in self.bounds.values()]

    @property
    def version(self) -> int:
        """A number that changes when one of the tensors is written to in place."""
        return sum(bound.tensor._version for bound in self.bounds.values())

    def groups_of(self, groups: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return every module's param group as they are now: users reorder and merge them.

        Where none has the tensor, as between the steps of ZeRO-3, it is the one that it had.
        """
        now = {id(tensor): group for group in groups for tensor in group["params"]}
        found = {}
        for name, (tensor, index) in self._homes.items():
            former = groups[index] if index < len(groups) else {}
            found[name] = now.get(id(tensor), former)
        return found

    def set_ratios(self, ratios: Mapping[str, float]) -> None:
        """Take the modules' ratios; they hold from the next step on."""
        self._ratios.update(ratios)

    def set_uniform(self, ratio: float) -> None:
        """Take one ratio for everything that is decayed, modules or not."""
        self._ratios = {key: 0.0 if key == EXEMPT else ratio for key in self._ratios}

    def sums(self, held: Held, products: Callable[..., list[Tensor]]) -> dict[str, Tensor]:
        """Return sums [F] over this rank's fragments, by key, in float64; of tensors that have a
        gradient.

        Args:
            products: the F sums over a piece, from its gradient and its weight.
        """
        found: dict[str, Tensor] = {}
        bounds = [bound for group, _ in held for bound in self._active(group)]
        for cut, weight, gradient in (triple for bound in bounds for triple in bound.triples()):
            row = sum_pieces(products, gradient, weight)
            found[cut.key] = found[cut.key] + row if cut.key in found else row
        return found

    @torch.no_grad()
    def apply(self, held: Held, decoupled: bool) -> None:
        """Decay every fragment of every tensor that has a gradient.

        Args:
            held: the param groups, whose own weight_decay is 0 while the optimizer steps.
            decoupled: w ← (1 − lr_m·λ_m)·w (AdamW's decay, arXiv 1711.05101); else g ← g + λ_m·w
                (an L2 penalty).

        Raises:
            ValueError: a tensor that came to the optimizer later, is too coarse for decay, or would
                change its sign.
        """
        if self.before is not None:
            self.before(held)
        if self.norms is not None:
            self.norms.before([(rate_of(group), self._active(group)) for group, _ in held])
        if self.start is not None:
            self._hand(held, self.start.pull)
        elif self.cautious is not None:
            self._hand(held, self.cautious.keep)
        elif decoupled:
            self._shrink(held)
        else:
            self._penalise(held)

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Have the step that begins, its decay done, run at each module's learning rate."""
        if self.rates is not None:
            self.rates.begin(optimizer, self.bounds)

    @torch.no_grad()
    def finish(self) -> None:
        """Do what waited for the step, which is done."""
        if self.rates is not None:
            self.rates.finish()
        if self.cautious is not None:
            self.cautious.apply()
        if self.norms is not None:
            self.norms.after()

    def drop(self) -> None:
        """Forget what waits for a step that has failed."""
        if self.rates is not None:
            self.rates.drop()
        if self.cautious is not None:
            self.cautious.drop()
        if self.norms is not None:
            self.norms.drop()

    def _hand(self, held: Held, take: Callable[[Bound, list[Any]], None]) -> None:
        """Hand on every tensor with lr · λ of its fragments."""
        for group, decay in held:
            lr = rate_of(group)
            for bound in self._active(group):
                take(bound, [self._amount(*each, lr, decay) for each in bound.pairs()])

    def _amount(self, cut: Cut, gradient: Tensor, lr: Any, decay: float) -> Any:
        """Return lr · λ of a fragment: one number, or one of each element."""
        if cut.key in self.per_element:
            return lr * (decay * self.per_element[cut.key](gradient))
        weight_decay = self._ratios[cut.key] * decay
        return self._share(cut.key, lr, weight_decay) if weight_decay else 0.0

    def _share(self, key: str, lr: Any, weight_decay: float) -> Any:
        """Return lr · λ at the cut's own learning rate."""
        ratio = 1.0 if self.rates is None else self.rates.ratio(key)
        return amount_of(key, lr * ratio, weight_decay)

    def _shrink(self, held: Held) -> None:
        """One multiplication per device and type, whatever the number of fragments; those that are
        strided apart.
        """
        batches: dict[tuple[Any, ...], tuple[list[Tensor], list[Any]]] = {}
        for group, decay in held:
            lr = rate_of(group)
            for bound in self._active(group):
                if self.per_element:
                    self._shrink_elements(bound, lr, decay)
                for cut, view in zip(bound.cuts, bound.views(bound.tensor), strict=True):
                    weight_decay = self._ratios[cut.key] * decay
                    if not weight_decay or cut.key in self.per_element:
                        continue
                    # torch takes a batch singly where one view in it is strided, and none where
                    # numbers and tensors are mixed
                    kind = (view.device, view.dtype, cut.count == 1, isinstance(lr, Tensor))
                    views, factors = batches.setdefault(kind, ([], []))
                    views.append(view)
                    factors.append(1.0 - self._share(cut.key, lr, weight_decay))
        for views, factors in batches.values():
            refuse_coarse(views[0].dtype)
            torch._foreach_mul_(views, factors)

    def _shrink_elements(self, bound: Bound, lr: Any, decay: float) -> None:
        for cut, view, gradient in bound.triples():
            if cut.key not in self.per_element:
                continue
            for weights, gradients in chunks(view, gradient):
                amounts = self.per_element[cut.key](gradients).mul_(lr * decay)
                weights.addcmul_(weights, amounts, value=-1.0)

    def _penalise(self, held: Held) -> None:
        """On an accelerator one product and one sum for all fragments; on a CPU one fused
        multiply-add a fragment, as torch's own optimizers take.
        """
        batches: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], ...]] = {}
        factors: dict[tuple[torch.device, torch.dtype], list[float]] = {}
        for group, decay in held:
            # the optimizer turns the gradient round before it would add its own
            sign = -1.0 if group.get("maximize") else 1.0
            triples = (triple for bound in self._active(group) for triple in bound.triples())
            for cut, weight, gradient in triples:
                each = self.per_element.get(cut.key)
                weight_decay = self._ratios[cut.key] * decay
                if each is not None:
                    gradient.add_(weight * (decay * each(gradient)), alpha=sign)
                elif weight_decay:
                    weights, gradients = batches.setdefault(kind_of(gradient), ([], []))
                    weights.append(weight.to(gradient.dtype))
                    gradients.append(gradient)
                    factors.setdefault(kind_of(gradient), []).append(sign * weight_decay)
        for kind, (weights, gradients) in batches.items():
            add_scaled(gradients, weights, factors[kind])

    def _active(self, group: Mapping[str, Any]) -> Iterator[Bound]:
        """Yield what a step of this group updates: tensors that have a gradient.

        Read at step time: ZeRO-3 swaps sub-groups in and out.
        """
        for tensor in group["params"]:
            if tensor.grad is None:
                continue
            if id(tensor) not in self.bounds:
                raise ValueError(
                    f"a parameter of shape {list(tensor.shape)} came to the optimizer after "
                    "AlphaDecay was made, and has no decay: "
                    "make AlphaDecay after the last add_param_group"
                )
            yield self.bounds[id(tensor)]

    def refuse_coarse_weights(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Refuse 16-bit tensors of which anything decays.

        Raises:
            ValueError: there is one; the message names the way out.
        """
        for bound, group in self._trained.values():
            decays = groups[group].get("weight_decay")
            if decays and any(self._ratios[cut.key] for cut in bound.cuts):
                refuse_coarse(bound.tensor.dtype)
