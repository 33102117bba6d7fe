"""Alpha as a controller of learning rates (LLR, arXiv 2605.22297): what each module's is at a step,
and what is kept of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from alphadecay.config import AlphaDecayConfig
from alphadecay.optim.fragments import ENDS
from alphadecay.policy.apply import rate_ratios_of
from alphadecay.policy.ramp import Ramp


class LearningRates:
    """Each module's multiple of its group's learning rate, step by step; none where alpha drives
    the decay alone.

    Args:
        config: the map and its range, and what else it says of rates.
        sizes: parameters of each module.
        ends: names of the embeddings and the output head.
        apply: takes the multiples of the next step, by key of a fragment.
    """

    def __init__(
        self,
        config: AlphaDecayConfig,
        sizes: Mapping[str, int],
        ends: Collection[str],
        apply: Callable[[Mapping[str, float]], None],
    ) -> None:
        self._config = config
        self._sizes = sizes
        self._ends = tuple(ends)
        self._apply = apply
        self._ramp = Ramp(config.lr_ramp)
        self._step = 0  # the last one done

    @property
    def ratios(self) -> dict[str, float]:
        """The multiples of the next step, by weight name."""
        return self._by_name(self._ramp.at(self._step + 1))

    @property
    def targets(self) -> dict[str, float]:
        """The multiples that the ramp leads to, by weight name."""
        return self._by_name(self._ramp.target)

    def aim(self, alphas: Mapping[str, float], step: int) -> None:
        """Turn to a refresh's multiples, made after a step; one past lr_until changes nothing."""
        config = self._config
        if not config.drives_rates:
            return
        if config.lr_until is None or step <= config.lr_until or not self._ramp.target:
            ratios = rate_ratios_of(alphas, self._sizes, config)
            self._ramp.aim({**ratios, ENDS: config.lr_ends}, step + 1)
        self.advance(step)

    def advance(self, step: int) -> None:
        """Have the step after this one run on its multiples."""
        self._step = step
        self._apply(self._ramp.at(step + 1))

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return self._ramp.state_dict()

    def load_state_dict(
        self, state: Mapping[str, Any] | None, alphas: Mapping[str, float], step: int
    ) -> None:
        """Go on from what `state_dict` returned after a step; without it, from those alphas."""
        if state is None:
            self._ramp = Ramp(self._config.lr_ramp)
            self.aim(alphas, step)
        elif self._config.drives_rates:
            self._ramp.load_state_dict(state)
            self.advance(step)

    def _by_name(self, ratios: Mapping[str, float]) -> dict[str, float]:
        found = {name: ratio for name, ratio in ratios.items() if name != ENDS}
        return found | {name: ratios[ENDS] for name in self._ends if ENDS in ratios}
