"""Every module's spectrum, once: matrices to their owners, estimates there, one table shared by
all.

A burst does all of it at one step; a spread refresh (`spread.py`) takes the Gram matrices at one
step, and solves them over the following ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor

from alphadecay.calibration import Shape, known_ways
from alphadecay.config import AlphaDecayConfig
from alphadecay.gram_solvers import ByEigenvalues, GramSolver, WithoutSpectrum
from alphadecay.modules import WeightModule
from alphadecay.owners import Plan, module_cost, plan_owners
from alphadecay.sharding.base import Sharding
from alphadecay.spectral import (
    ESTIMATORS,
    FIELDS,
    GRAM_METHODS,
    Estimate,
    EstimateRow,
    estimate_from_gram,
    take_gram,
    to_estimate,
)
from alphadecay.spectral.solving import Way
from alphadecay.spread import SpreadRefresh
from alphadecay.stacks import Stacks

_Result = TypeVar("_Result")


class SpectralRefresh:
    """Measures a fixed set of modules over a fixed sharding.

    Args:
        modules: by name, in the model's order.
        sharding: how weights reach their owners.
        config: tail, method, score and compat are read.
    """

    def __init__(
        self, modules: Mapping[str, WeightModule], sharding: Sharding, config: AlphaDecayConfig
    ) -> None:
        self.modules = modules
        self.sharding = sharding
        self.config = config
        self.plan = self._plan(list(modules))

    def measure(self) -> dict[str, Estimate]:
        """Estimate all modules now; those for which float32 was not enough a second time.

        Collective.
        """
        return self.escalated(self._measure(list(self.modules), self.plan, torch.float32))

    def escalated(self, estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
        """Return the estimates, those for which float32 was not enough made again in float64, from
        the weights as they are now.

        Collective: every rank holds the same estimates, so all measure again or none does.
        """
        doubtful = [name for name, estimate in estimates.items() if estimate.escalate]
        if not doubtful:
            return dict(estimates)
        return {**estimates, **self._measure(doubtful, self._plan(doubtful), torch.float64)}

    def take(self) -> SpreadRefresh:
        """Take the Grams of all modules now, each on its owner, to be solved later. Collective.

        They are float32, half as large, unless a tail is searched, which asks for float64.
        """
        precision = torch.float32 if self.config.tail == "hill" else torch.float64
        grams = self._collect(self.plan, lambda _, weight_MN: take_gram(weight_MN, precision))
        solve = partial(estimate_from_gram, tail=self.config.tail, published=self.config.published)
        share = partial(self.share, list(self.modules))
        return SpreadRefresh(grams, solve, self.sharding.attempt, share)

    def share(self, names: Sequence[str], rows: Mapping[str, EstimateRow]) -> dict[str, Estimate]:
        """Return one estimate per name, each from the rank that holds its row. Collective."""
        table = torch.zeros(len(names), len(FIELDS), dtype=torch.float64)
        position = {name: index for index, name in enumerate(names)}
        by_device: dict[torch.device, list[str]] = {}
        for name, row in rows.items():
            by_device.setdefault(row.alpha.device, []).append(name)
        for held in by_device.values():  # one wait for each device
            packed = torch.stack([rows[name].pack() for name in held])
            table[[position[name] for name in held]] = packed.cpu()
        numbers = self.sharding.share(table).tolist()
        return {name: to_estimate(row) for name, row in zip(names, numbers, strict=True)}

    def _plan(self, names: Sequence[str]) -> Plan:
        shapes = {name: self.modules[name].shape for name in names}
        return plan_owners(shapes, self.sharding.world_size)

    def _measure(
        self, names: Sequence[str], plan: Plan, precision: torch.dtype
    ) -> dict[str, Estimate]:
        if self._solver is None:
            rows = self._collect(plan, partial(self._estimate, precision=precision))
        else:
            rows = self._solve_together(self._solver, plan, precision)
        return self.share(names, rows)

    def _solve_together(
        self, solver: GramSolver, plan: Plan, precision: torch.dtype
    ) -> dict[str, EstimateRow]:
        """Return the rows of this rank's matrices from their Grams. Collective."""
        stacks = Stacks(solver, self.sharding.attempt)

        def take(module: WeightModule, weight_MN: Tensor) -> EstimateRow | None:
            side = min(module.shape)
            if module.kernel != 1 or side < 2:
                return self._estimate(module, weight_MN, precision)
            stacks.add(module.name, take_gram(weight_MN, solver.precision(side, precision)))
            return None

        apart = self._collect(plan, take)
        return stacks.finish() | {name: row for name, row in apart.items() if row is not None}

    @cached_property
    def _solver(self) -> GramSolver | None:
        """What solves the Grams of every refresh; None where they measure something else.

        Collective at its first use, the first refresh, where the weights lie on a GPU.
        """
        c = self.config
        if c.score != "alpha":
            return None
        if c.method in GRAM_METHODS:
            return WithoutSpectrum(c, self._device())
        return ByEigenvalues(c, self._agreed_ways()) if c.method == "gram" else None

    def _agreed_ways(self) -> dict[int, Way]:
        """Return how the device of the weights solves each side fastest, as rank 0 measured it: α
        must not depend on who owns a module.

        Collective where the weights lie on a GPU.
        """
        device = self._device()
        every = sorted({module.shape for module in self.modules.values()})
        ordered = sorted(every, key=module_cost)  # a side's largest shape stands for all of it
        shapes: dict[int, Shape] = {min(shape): shape for shape in ordered if min(shape) > 1}
        if device.type != "cuda" or self.config.tail != "hill" or not shapes:
            return {}
        table = torch.zeros(len(shapes), 2, dtype=torch.float64)
        if self.sharding.rank == 0:
            with self.sharding.attempt("how its device solves fastest"):
                ways = known_ways(shapes.values(), device)
                table = torch.tensor([ways[shape].pack() for shape in shapes.values()])
        codes = self.sharding.share(table.double()).tolist()
        return {side: Way.unpack(code) for side, code in zip(shapes, codes, strict=True)}

    def _device(self) -> torch.device:
        """Return a GPU where any weight lies on one or is brought to one."""
        devices = [module.parameter.device for module in self.modules.values()]
        gpus = [device for device in (*devices, self.sharding.device) if device.type == "cuda"]
        return gpus[0] if gpus else torch.device("cpu")

    def _estimate(
        self, module: WeightModule, weight_MN: Tensor, precision: torch.dtype
    ) -> EstimateRow:
        c = self.config
        return ESTIMATORS[c.method if c.score == "alpha" else c.score](
            weight_MN,
            tail=c.tail,
            published=c.published,
            precision=precision,
            kernel=module.kernel,
        )

    @torch.no_grad()
    def _collect(
        self, plan: Plan, function: Callable[[WeightModule, Tensor], _Result]
    ) -> dict[str, _Result]:
        """Return the function of every matrix that this rank owns, by name. Collective."""
        self.sharding.refuse_unlike(self.modules[name] for name in plan.owners)
        rounds = [
            [None if name is None else self.modules[name] for name in row] for row in plan.rounds
        ]
        results = {}
        for module, weight_MN in self.sharding.deliver(rounds):
            with self.sharding.attempt(module.name):
                results[module.name] = function(module, weight_MN)
            del weight_MN  # before the next arrives: a rank holds one matrix at a time
        return results
