"""The one mechanism that decays an optimizer's tensors module by module, and the optimizers that
carry the library's name.
"""

from alphadecay.optim.adam import Adam, AdamW, allow_in_zero
from alphadecay.optim.gradient_guard import forget_dry_run, guard_stage0
from alphadecay.optim.sgd import SGD, SGDW

__all__ = ["SGD", "SGDW", "Adam", "AdamW", "allow_in_zero", "forget_dry_run", "guard_stage0"]
