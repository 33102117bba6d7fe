"""liger-kernel's fused head and loss: the logits of all rows are never in memory at once.

An optional package, for CUDA. It asks the device for the number of rows that count, for which the
host waits in every micro batch.
"""

from __future__ import annotations

from importlib.util import find_spec

from torch import Tensor

from train.errors import UserError
from train.system.device import uses_cuda


def has_liger() -> bool:
    """Return whether liger-kernel is installed and can run here."""
    return uses_cuda() and find_spec("liger_kernel") is not None


def check_liger() -> None:
    """Refuse where it cannot run.

    Raises:
        UserError: no CUDA GPU, or liger-kernel is not installed.
    """
    if not uses_cuda():
        raise UserError(
            "model.fused_cross_entropy is liger, which needs a CUDA GPU, and there is none here; "
            "chunked does the same in torch's own parts"
        )
    if find_spec("liger_kernel") is None:
        raise UserError(
            "model.fused_cross_entropy is liger, and liger-kernel is not installed: pip install "
            "'alphadecay[liger]'; chunked does the same in torch's own parts"
        )


def liger_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, labels_N: Tensor) -> Tensor:
    """Return the mean cross-entropy of `hidden @ weight.T` over the rows that count."""
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    loss: Tensor = liger_fused_linear_cross_entropy(hidden_ND, weight_VD, labels_N)
    return loss
