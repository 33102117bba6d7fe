"""One decay for all weights: what AlphaDecay is compared with, with the same parameters left out of
it.
"""

from __future__ import annotations

from typing import Any

from alphadecay.binding import bare_optimizer, bind
from alphadecay.fragments import exempt_parameters
from alphadecay.modules import find_modules
from alphadecay.transport.detect import detect


def bind_uniform(model: Any, optimizer: Any = None) -> None:
    """From here on every weight has the optimizer's base decay, norm gains and biases none, as
    under AlphaDecay.

    Args:
        model: a module, a DDP wrapper, or a DeepSpeed engine; wrap first.
        optimizer: the optimizer that updates it; left out with an engine.

    Raises:
        ValueError: a wrapper that cannot work, or no base decay; the message says what to do.
    """
    target = detect(model)
    bare = bare_optimizer(target, optimizer)
    bind(
        target.engine,
        bare,
        find_modules(target.model),
        exempt_parameters(target.model.parameters()),
    )
