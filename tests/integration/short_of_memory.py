"""The program where a forward pass of more than SHORT_ROWS rows is too much for rank SHORT_RANK."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor

from train.engines.deepspeed import DeepSpeedEngine
from train.pretrain import _leave, main

forward = DeepSpeedEngine.forward


def forward_if_it_fits(engine: DeepSpeedEngine, tokens_BL: Tensor, labels_BL: Tensor) -> Tensor:
    """Fail as torch does."""
    here = os.environ["RANK"] == os.environ["SHORT_RANK"]
    if here and len(tokens_BL) > int(os.environ["SHORT_ROWS"]):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
    return forward(engine, tokens_BL, labels_BL)


DeepSpeedEngine.forward = forward_if_it_fits  # type: ignore[method-assign]

if __name__ == "__main__":
    _leave(main())
