"""Decides which kernels compute the model: what `auto` means on a device, and what cannot run."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from train.config import ModelConfig
from train.errors import UserError
from train.models import spec_of
from train.models.liger import check_liger, has_liger
from train.system.device import uses_cuda

if TYPE_CHECKING:
    from torch import Tensor

    from train.models.spec import LossOfHead

LossKernel = Literal["plain", "liger", "chunked"]


def compiles_layers(model: ModelConfig, on_cuda: bool | None = None) -> bool:
    """Return whether the decoder layers are compiled.

    Args:
        on_cuda: of the device to compute on; None asks this machine.
    """
    if model.compile != "auto":
        return model.compile
    on_cuda = uses_cuda() if on_cuda is None else on_cuda
    return on_cuda and has_compiler() and find_spec("triton") is not None


def why_not_compiled(model: ModelConfig) -> str:
    """Return what a person should know where `auto` compiles nothing on a GPU; else nothing."""
    if model.compile != "auto" or not uses_cuda() or compiles_layers(model):
        return ""
    missing = "triton" if has_compiler() else "C++ compiler"
    return f"layers are not compiled, for there is no {missing} here: steps may take twice as long"


def loss_kernel(model: ModelConfig, on_cuda: bool | None = None, z_loss: float = 0.0) -> LossKernel:
    """Return what computes head and loss; all but "plain" without the logits in memory.

    Compiled, chunks take as few kernels as liger-kernel's own, and the host waits for nothing.

    Args:
        on_cuda: of the device to compute on; None asks this machine.
        z_loss: its coefficient; it is computed in chunks alone.
    """
    wanted = model.fused_cross_entropy
    if not spec_of(model).fuses_loss:
        return "plain"
    if z_loss:
        return "chunked"
    on_cuda = uses_cuda() if on_cuda is None else on_cuda
    if wanted == "liger" or wanted == "chunked":
        return wanted
    if wanted is False or (wanted == "auto" and not on_cuda):
        return "plain"
    return "liger" if has_liger() and not compiles_layers(model, on_cuda) else "chunked"


def fused_loss(model: ModelConfig, z_loss: float = 0.0) -> LossOfHead | None:
    """Return the function from inputs and weight of the head and labels to the loss.

    None where the model is to compute its loss as written.

    Args:
        z_loss: its coefficient.
    """
    kernel = loss_kernel(model, z_loss=z_loss)
    if kernel == "plain":
        return None
    if kernel == "liger":
        from train.models.liger import liger_cross_entropy

        return liger_cross_entropy
    from train.models.chunked_loss import chunk_gradients, chunked_cross_entropy

    def of_chunk(hidden: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return chunk_gradients(hidden, weight, labels, z_loss)

    gradients = of_chunk
    if compiles_layers(model):
        from train.models.compiling import compile_function

        gradients = compile_function(of_chunk)
    return lambda hidden, weight, labels: chunked_cross_entropy(hidden, weight, labels, gradients)


def check_machine(model: ModelConfig) -> None:
    """Refuse what this machine cannot compute, before anything is built.

    Raises:
        UserError: names what is missing.
    """
    if model.attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise UserError(
            "model.attention is flash_attention_2, and flash-attn is not installed here; sdpa has "
            "the same kernels built in"
        )
    if model.compile is True and not has_compiler():
        raise UserError(
            "model.compile needs a C++ compiler, and there is none on the path; install one (g++) "
            "or leave it on auto"
        )
    if model.fused_cross_entropy == "liger":
        check_liger()


def has_compiler() -> bool:
    """Return whether there is a compiler for the code that torch.compile writes."""
    names = (os.environ.get("CXX", "c++"), "g++", "clang++")
    return any(shutil.which(name) for name in names)
