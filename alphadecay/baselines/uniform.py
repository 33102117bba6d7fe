"""One decay for all weights: what AlphaDecay is compared with, with the same parameters left out of
it.
"""

from __future__ import annotations

from typing import Any

from alphadecay.attach import Attachment
from alphadecay.config import Towards
from alphadecay.modules import find_modules
from alphadecay.sharding.detect import detect


def bind_uniform(
    model: Any,
    optimizer: Any = None,
    *,
    published: bool = False,
    cautious: bool = False,
    towards: Towards = "zero",
) -> Attachment:
    """From here on every weight has the optimizer's base decay, norm gains and biases none, as
    under AlphaDecay.

    Args:
        model: a module, a DDP wrapper, or a DeepSpeed engine; wrap first.
        optimizer: the optimizer that updates it, or several; left out with an engine.
        published: norm gains and biases decay too.
        cautious, towards: as for AlphaDecay.

    Returns:
        What `remove()` undoes; it holds without being kept.

    Raises:
        ValueError: a wrapper that cannot work, or no base decay; the message says what to do.
    """
    target = detect(model)
    modules = find_modules(target.model)
    return Attachment(
        target, optimizer, modules, published=published, cautious=cautious, towards=towards
    )
