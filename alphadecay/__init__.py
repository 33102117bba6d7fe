"""AlphaDecay: module-wise weight decay from heavy-tailed spectra, for sharded training (arXiv
2506.14562).

Each name is imported when it is first asked for, so that `alphadecay.config` needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alphadecay.config import AlphaDecayConfig as AlphaDecayConfig
    from alphadecay.controller import AlphaDecay as AlphaDecay
    from alphadecay.inspect.analyze import analyze as analyze
    from alphadecay.optim import Adam as Adam
    from alphadecay.optim import AdamW as AdamW
    from alphadecay.policy import assign_weight_decay as assign_weight_decay
    from alphadecay.spectral import pl_alpha_hill as pl_alpha_hill

_HOMES = {
    "Adam": "optim",
    "AdamW": "optim",
    "AlphaDecay": "controller",
    "AlphaDecayConfig": "config",
    "analyze": "inspect.analyze",
    "assign_weight_decay": "policy",
    "pl_alpha_hill": "spectral",
}
__all__ = [
    "Adam",
    "AdamW",
    "AlphaDecay",
    "AlphaDecayConfig",
    "analyze",
    "assign_weight_decay",
    "pl_alpha_hill",
]
__version__ = "0.2.0.dev0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
