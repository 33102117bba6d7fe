"""Has torch compute the same bits every time, on a GPU too."""

from __future__ import annotations

import os


def make_deterministic() -> None:
    """Take only kernels that add up in a fixed order; call it before the GPU is used.

    It costs time, in the backward of attention and embeddings above all, and 32 MiB of workspace.
    An operation that has no such kernel raises. Not seeded here: the loop seeds every generator.
    """
    # cuBLAS otherwise chooses a workspace for each stream, and with it the order of a sum
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.use_deterministic_algorithms(True)
    # dear, and nothing reads it
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False  # it would choose by the clock
