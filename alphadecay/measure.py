"""Every module's spectrum, once: matrices to their owners, estimates there, one table shared by
all.

A burst does all of it at one step. A spread refresh takes the Gram matrices at one step, which
fixes what is measured, and solves them over the following steps; the table is shared when the last
is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from alphadecay.config import AlphaDecayConfig
from alphadecay.modules import WeightModule
from alphadecay.placement import Plan, plan_owners
from alphadecay.sharding.base import Sharding
from alphadecay.spectral import (
    FIELDS,
    Estimate,
    estimate,
    estimate_farms,
    estimate_from_gram,
    estimate_score,
    take_gram,
    to_estimate,
)


class Measurer:
    """Measures a fixed set of modules over a fixed transport.

    Args:
        modules: by name, in the model's order.
        transport: how weights reach their owners.
        config: tail, method and compat are read.
    """

    def __init__(
        self, modules: Mapping[str, WeightModule], transport: Sharding, config: AlphaDecayConfig
    ) -> None:
        self.modules = modules
        self.transport = transport
        self.config = config
        self.plan = self._plan(list(modules))

    def measure(self) -> dict[str, Estimate]:
        """All modules now; those for which float32 was not enough a second time in float64.

        Collective.
        """
        table = self._rows(list(self.modules), self.plan, torch.float32)
        doubtful = [name for name, row in table.items() if row[FIELDS.index("escalate")]]
        if doubtful:  # every rank sees the same table, so every rank takes this turn or none does
            table |= self._rows(doubtful, self._plan(doubtful), torch.float64)
        return {name: to_estimate(row) for name, row in table.items()}

    def take(self) -> Pending:
        """The Grams of all modules now, each on its owner, to be solved later. Collective.

        They are float64: later the weights are gone, and with them the chance to look again in
            higher precision.
        """
        return Pending(
            self, self._collect(self.plan, lambda weight_MN: take_gram(weight_MN, torch.float64))
        )

    def share(self, names: Sequence[str], rows: Mapping[str, Tensor]) -> dict[str, list[float]]:
        """One row of FIELDS per name, from the ranks that hold it to all.

        Collective; the one host synchronisation.
        """
        device = next((row.device for row in rows.values()), self.transport.device)
        empty = torch.zeros(len(FIELDS), dtype=torch.float64, device=device)
        table = self.transport.share(torch.stack([rows.get(name, empty) for name in names]))
        return dict(zip(names, table.tolist(), strict=True))

    def solve(self, gram_KK: Tensor) -> Tensor:
        """The row of a Gram that `take` took."""
        return estimate_from_gram(gram_KK, tail=self.config.tail, published=self.config.published)

    def _plan(self, names: Sequence[str]) -> Plan:
        return plan_owners(
            {name: self.modules[name].shape for name in names}, self.transport.world_size
        )

    def _rows(
        self, names: Sequence[str], plan: Plan, precision: torch.dtype
    ) -> dict[str, list[float]]:
        return self.share(
            names, self._collect(plan, lambda weight_MN: self._estimate(weight_MN, precision))
        )

    @torch.no_grad()
    def _collect(self, plan: Plan, of: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """`of` every matrix that this rank owns, by name. Collective."""
        rounds = [
            [None if name is None else self.modules[name] for name in row] for row in plan.rounds
        ]
        results = {}
        for module, weight_MN in self.transport.deliver(rounds):
            with self.transport.attempt(module.name):
                results[module.name] = of(weight_MN)
            del weight_MN  # before the next arrives: a rank holds one matrix at a time
        return results

    def _estimate(self, weight_MN: Tensor, precision: torch.dtype) -> Tensor:
        c = self.config
        if c.score != "alpha":
            return estimate_score(weight_MN, c.score, precision=precision)
        if c.method == "farms":
            return estimate_farms(weight_MN, precision=precision)
        return estimate(
            weight_MN, tail=c.tail, method=c.method, published=c.published, precision=precision
        )


class Pending:
    """A spread refresh under way: Grams taken and not all solved."""

    def __init__(self, measurer: Measurer, grams: dict[str, Tensor]) -> None:
        self._measurer = measurer
        self._grams = grams
        self._rows: dict[str, Tensor] = {}
        device = next((gram.device for gram in grams.values()), torch.device("cpu"))
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def advance(self, steps_left: int) -> None:
        """Solves this step's share of what is left: all of it where `steps_left` is 1.

        Local, and on CUDA beside the training.
        """
        for name in list(self._grams)[: -(-len(self._grams) // steps_left)]:
            with self._measurer.transport.attempt(name):
                self._rows[name] = self._solve(self._grams.pop(name))

    def finish(self) -> dict[str, Estimate]:
        """The estimates of all modules, what was still to be solved included. Collective."""
        self.advance(1)
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        table = self._measurer.share(list(self._measurer.modules), self._rows)
        return {name: to_estimate(row) for name, row in table.items()}

    def _solve(self, gram_KK: Tensor) -> Tensor:
        if self._stream is None:
            return self._measurer.solve(gram_KK)
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            gram_KK.record_stream(self._stream)
            return self._measurer.solve(gram_KK)
