"""AlphaDecay inside other people's loops; each name loads its package when it is first asked for.

`AlphaDecayCallback` is for transformers.Trainer; `register()` makes "type": "AlphaDecayAdamW" work
in a DeepSpeed JSON.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphadecay.integrations.deepspeed import register as register
    from alphadecay.integrations.hf_transformers import AlphaDecayCallback as AlphaDecayCallback

_HOMES = {"AlphaDecayCallback": "hf_transformers", "register": "deepspeed"}
__all__ = ["AlphaDecayCallback", "register"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
