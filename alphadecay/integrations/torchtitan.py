"""AlphaDecay in torchtitan (0.3 and later): the optimizer container, with one more setting.

In a model's configuration:

    optimizer=AlphaDecayOptimizersContainer.Config(
        param_groups=[...], alphadecay={"interval": 500}
    )
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torchtitan.components.optimizer import OptimizersContainer

from alphadecay.controller import AlphaDecay
from alphadecay.integrations.callback import check_options

_KEY = "alphadecay"  # of its state in the container's


class AlphaDecayOptimizersContainer(OptimizersContainer):
    """torchtitan's optimizers; every linear weight has its own decay in all of them.

    AlphaDecay is made when its state is first asked for or the first step is taken: the weights are
    initialised or loaded by then. Its state lies in the container's, and so in each checkpoint.

    Attributes:
        decay: the AlphaDecay at work; None before there is one.

    Raises:
        TypeError: an option that AlphaDecay does not have.
        ValueError: a choice that cannot work, or a model in several parts; the message says what to
            do.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(OptimizersContainer.Config):
        """The container's settings, and AlphaDecay's options: interval, s1, s2, include, ..."""

        alphadecay: dict[str, Any] = field(default_factory=dict)

    decay: AlphaDecay | None = None

    def __init__(self, config: Config, *, model_parts: list[nn.Module]) -> None:
        check_options(config.alphadecay)
        if len(model_parts) != 1:
            raise ValueError(
                f"AlphaDecay cannot work here: pipeline parallelism cuts the model into "
                f"{len(model_parts)} parts on this rank; use one pipeline stage"
            )
        super().__init__(config, model_parts=model_parts)
        self._options = config.alphadecay
        # hooks, not a step() of its own: the container's other hooks run once as before
        self.register_step_pre_hook(lambda *_: self._attached() and None)
        self.register_step_post_hook(lambda *_: self._attached().step() and None)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizers' state and AlphaDecay's. Collective where it makes AlphaDecay."""
        return {**super().state_dict(), _KEY: self._attached().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the saved state of the optimizers and of AlphaDecay. Collective."""
        super().load_state_dict({key: state_dict[key] for key in state_dict if key != _KEY})
        self._attached().load_state_dict(state_dict[_KEY])

    def _attached(self) -> AlphaDecay:
        """Return AlphaDecay, made at the first call. Collective then."""
        if self.decay is None:
            self.decay = AlphaDecay(self.model_parts[0], self.optimizers, **self._options)
        return self.decay
