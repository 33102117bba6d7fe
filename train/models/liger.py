"""liger-kernel's fused head and loss: the logits of a row are never in memory at once.

An optional package, for CUDA.
"""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

from train.errors import UserError
from train.system.device import uses_cuda


def check_fused_cross_entropy() -> None:
    """Refuse where it cannot run.

    Raises:
        UserError: no CUDA GPU, or liger-kernel is not installed.
    """
    if not uses_cuda():
        raise UserError(
            "model.fused_cross_entropy needs a CUDA GPU, and there is none here; take it out of "
            "the recipe"
        )
    if find_spec("liger_kernel") is None:
        raise UserError(
            "model.fused_cross_entropy needs liger-kernel, which is not installed: pip install "
            "'alphadecay[liger]'"
        )


def fuse_llama_loss(module: nn.Module) -> None:
    """Change how a LLaMA computes its loss from labels, and nothing else.

    Without labels it returns logits as before.
    """
    check_fused_cross_entropy()
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    apply_liger_kernel_to_llama(
        rope=False,
        swiglu=False,
        rms_norm=False,
        cross_entropy=False,
        fused_linear_cross_entropy=True,
        model=module,
    )
