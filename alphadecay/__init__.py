"""AlphaDecay: module-wise weight decay from heavy-tailed spectra, for sharded training (arXiv
2506.14562).
"""

from alphadecay.config import AlphaDecayConfig
from alphadecay.controller import AlphaDecay
from alphadecay.optim import Adam, AdamW
from alphadecay.policy import assign_weight_decay
from alphadecay.spectral import pl_alpha_hill

__all__ = [
    "Adam",
    "AdamW",
    "AlphaDecay",
    "AlphaDecayConfig",
    "assign_weight_decay",
    "pl_alpha_hill",
]
__version__ = "0.2.0.dev0"
