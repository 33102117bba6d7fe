"""liger-kernel's fused head and loss: the logits of a row are never in memory at once.

An optional package, for CUDA.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from transformers import LlamaForCausalLM

from train.errors import UserError


def check_fused_cross_entropy() -> None:
    """Refuses where it cannot run.

    Raises:
        UserError: no CUDA GPU, or liger-kernel is not installed.
    """
    if not torch.cuda.is_available():
        raise UserError(
            "model.fused_cross_entropy needs a CUDA GPU, and there is none here; take it out of "
            "the recipe"
        )
    if find_spec("liger_kernel") is None:
        raise UserError(
            "model.fused_cross_entropy needs liger-kernel, which is not installed: pip install "
            "'alphadecay[liger]'"
        )


def fuse_cross_entropy(model: LlamaForCausalLM) -> None:
    """Changes how this model computes its loss from labels, nothing else; without labels it returns
    logits as before.
    """
    check_fused_cross_entropy()
    from liger_kernel.transformers import apply_liger_kernel_to_llama

    apply_liger_kernel_to_llama(
        rope=False,
        swiglu=False,
        rms_norm=False,
        cross_entropy=False,
        fused_linear_cross_entropy=True,
        model=model,
    )
