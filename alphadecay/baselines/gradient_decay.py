"""GradientDecay: AWD, AdaDecay and the mapped gradient norm, with the surface of AlphaDecay.

Baselines to compare with.

Their decays are made inside the optimizer's step, where the gradients are, from sums over all
ranks' fragments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch

from alphadecay.attach import Attachment
from alphadecay.baselines.baseline import Baseline
from alphadecay.baselines.rules import AWD_SCALE, adadecay_modules, adadecay_parameters, awd
from alphadecay.config import Towards
from alphadecay.modules import find_modules
from alphadecay.optim.arithmetic import inner, magnitude
from alphadecay.optim.fragments import Held
from alphadecay.optim.wrapped import bare_optimizers
from alphadecay.policy import assign_weight_decay
from alphadecay.sharding.detect import detect

# from the gradient and the weight of a piece
_Products = Callable[[torch.Tensor, torch.Tensor], list[torch.Tensor]]
Rule = Literal["awd", "adadecay", "adadecay_parameters", "gradient_norm"]
_STATE_VERSION = 2
_LAYER = re.compile(r"^(.*?\.\d+)\.")


class GradientDecay(Baseline):
    """Weight decay from gradients, used as AlphaDecay is: construct and step it on every rank.

    awd: one decay for everything, at every step: from the gradient's norm over the weights' (arXiv
        2210.00094);
    adadecay: one per module, every `interval` steps: from gradient norms standardised within a
        layer, as published with AlphaDecay (arXiv 2506.14562); before the first such step every
        module has the base decay;
    adadecay_parameters: one per element of every module, at every step (arXiv 1907.08931);
    gradient_norm: one per module, every `interval` steps: AlphaDecay's linear map from s1 to s2
        with the gradient's norm in alpha's place (an ablation of arXiv 2506.14562).

    Args:
        model: a module, a DDP wrapper, or a DeepSpeed engine; wrap first.
        optimizer: the optimizer that updates it; left out with an engine.
        rule: which of them.
        interval: optimizer steps between refreshes, and between the steps that `step()` calls worth
            a record.
        awd_scale: AWD's multiple of the base decay.
        s1, s2: of gradient_norm: decays of the smallest and the largest norm, as multiples of the
            base decay.
        compat: "published" decays norm gains and biases too, as the published code does.
        cautious, towards: as for AlphaDecay.
        include, exclude, splits: as for AlphaDecay.

    Raises:
        ValueError: a choice or wrapper that cannot work; the message says what to do.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        rule: Rule,
        interval: int = 500,
        awd_scale: float = AWD_SCALE,
        s1: float = 0.67,
        s2: float = 5.0,
        compat: Literal["published"] | None = None,
        cautious: bool = False,
        towards: Towards = "zero",
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        splits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        if rule not in get_args(Rule) or interval < 1:
            raise ValueError(
                f"rule {rule!r}, interval {interval}: rules are {', '.join(get_args(Rule))}; the "
                "interval is at least 1"
            )
        target = detect(model)
        self.interval = interval
        self._awd_scale = awd_scale
        self._range = (s1, s2)
        self._sharding = target.sharding
        _refuse_partial_steps(target.engine, bare_optimizers(target.engine, optimizer))
        modules = find_modules(target.model, include, exclude, splits)
        attachment = Attachment(
            target,
            optimizer,
            modules,
            published=compat == "published",
            cautious=cautious,
            towards=towards,
        )
        super().__init__(rule, _STATE_VERSION, attachment, [module.name for module in modules])
        self._fragments = attachment.fragments[0]
        self._sizes = {module.name: math.prod(module.shape) for module in modules}
        self._layers = {
            name: found[1] if (found := _LAYER.match(name)) else "" for name in self._sizes
        }
        self._copies = self._count_copies()
        self._last_refresh_step = 0
        self._ratios = dict.fromkeys(self._sizes, 1.0)
        self._previous: float | None = None
        self._fragments.before = {"awd": self._awd, "adadecay_parameters": self._elements}.get(
            rule, self._modules
        )

    @property
    def weight_decays(self) -> dict[str, float]:
        """Decay of every module at the last step, by weight name; the base decay where each element
        has its own.
        """
        base = self._attachment.base
        return {name: ratio * base[name] for name, ratio in self._ratios.items()}

    @property
    def last_refresh_step(self) -> int:
        """The step (1-based) that last made decays of its gradients, among those that `step()`
        returned True for; 0 before.
        """
        return self._last_refresh_step

    def step(self) -> bool:
        """After each optimizer step.

        True once every interval, after a step whose decays are worth a record.
        """
        before = self._step
        self._count_steps()
        if self._step // self.interval == before // self.interval:
            return False
        self._last_refresh_step = self._step
        return True

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, keyed by weight name: fits any world size and any ZeRO stage."""
        return {
            **self._state(),
            "last_refresh_step": self._last_refresh_step,
            "previous": self._previous,
            "ratios": dict(self._ratios),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the saved decays.

        Raises:
            ValueError: the state is of another version, rule or model.
        """
        self._resume(state, state.get("ratios", ()))
        self._last_refresh_step = int(state["last_refresh_step"])
        self._previous = state["previous"]
        self._ratios = {name: float(state["ratios"][name]) for name in self._sizes}
        if self.rule in ("adadecay", "gradient_norm"):
            self._fragments.set_ratios(self._ratios)

    def remove(self) -> None:
        """Give the optimizer back as it was: every group decays by its own weight_decay again."""
        self._fragments.before = None
        self._attachment.remove()

    def _awd(self, held: Held) -> None:
        """Collective: inside every optimizer step."""
        rows = self._sums(held, _squares_of_both, 2).values()
        gradient, weight = (math.sqrt(math.fsum(column)) for column in zip(*rows, strict=True))
        self._previous = awd(1.0, gradient, weight, self._previous, scale=self._awd_scale)
        self._fragments.set_uniform(self._previous)
        self._ratios = dict.fromkeys(self._sizes, self._previous)

    def _modules(self, held: Held) -> None:
        """Collective in one optimizer step of each interval."""
        if (self._step + 1) % self.interval:
            return
        sums = self._sums(held, _squares, 1)
        norms = {name: math.sqrt(sums[name][0]) for name in self._sizes}
        self._ratios = (
            adadecay_modules(norms, self._layers, 1.0)
            if self.rule == "adadecay"
            else assign_weight_decay(norms, 1.0, *self._range)
        )
        self._fragments.set_ratios(self._ratios)

    def _elements(self, held: Held) -> None:
        """Collective: inside every optimizer step."""
        sums = self._sums(held, _moments, 2)
        rules: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
        for name, size in self._sizes.items():
            mean = sums[name][0] / size
            deviation = math.sqrt(max(0.0, sums[name][1] / size - mean * mean))
            rules[name] = partial(
                adadecay_parameters,
                weight_decay=1.0,
                moments=(mean, deviation),
            )
        self._fragments.per_element = rules

    def _sums(self, held: Held, products: _Products, fields: int) -> dict[str, list[float]]:
        """Sums [F] over every module whole, and over everything else by key.

        Collective.

        Args:
            products: the sums over a piece, from its gradient and its weight.
            fields: F.
        """
        local = self._fragments.sums(held, products)
        keys = self._fragments.keys
        device = next((row.device for row in local.values()), self._sharding.device)
        none = torch.zeros(fields, dtype=torch.float64, device=device)
        rows = self._sharding.share(torch.stack([local.get(key, none) for key in keys])).tolist()
        return {
            key: [value / self._copies for value in row]
            for key, row in zip(keys, rows, strict=True)
        }

    def _count_copies(self) -> int:
        """On how many ranks each element lies: what a sum over the ranks has to be divided by.

        Collective.
        """
        held = torch.tensor(
            [[float(self._fragments.elements[name])] for name in self._sizes], dtype=torch.float64
        )
        return round(float(self._sharding.share(held).sum()) / sum(self._sizes.values()))


def _squares(gradient: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Sum g²."""
    return [inner(gradient, gradient)]


def _squares_of_both(gradient: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Sums g² and w²."""
    return [inner(gradient, gradient), inner(weight, weight)]


def _moments(gradient: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Sums |g| and g²."""
    return [magnitude(gradient), inner(gradient, gradient)]


def _refuse_partial_steps(engine: Any, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """DeepSpeed steps param groups and sub-groups one after the other: no step sees all gradients
    then, and neither does one of several optimizers.
    """
    if len(optimizers) > 1:
        raise ValueError(
            f"decay from gradients needs them all in one step, and {len(optimizers)} optimizers "
            "take one each: use one optimizer"
        )
    (optimizer,) = optimizers
    if engine is None or engine.optimizer is optimizer:
        return
    pieces = len(getattr(engine.optimizer, "fp16_groups", optimizer.param_groups))
    if len(optimizer.param_groups) > 1 or pieces > 1:
        raise ValueError(
            "decay from gradients needs them all in one step, and DeepSpeed would take "
            f"{max(pieces, len(optimizer.param_groups))}: "
            "use one param group, and a zero_optimization.sub_group_size above the parameters of a "
            "rank"
        )
