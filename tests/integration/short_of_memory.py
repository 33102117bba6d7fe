"""The program where a forward pass of more than SHORT_ROWS rows is too much for rank SHORT_RANK."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from train.engines.deepspeed import DeepSpeedEngine
from train.engines.fsdp2 import Fsdp2Engine
from train.pretrain import _leave, main


def fail_if_short(engine: Any) -> None:
    """Have a class of engines fail as torch does."""
    forward = engine.forward

    def forward_if_it_fits(self: Any, inputs: Any) -> Any:
        here = os.environ["RANK"] == os.environ["SHORT_RANK"]
        if here and len(inputs["input_ids"]) > int(os.environ["SHORT_ROWS"]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return forward(self, inputs)

    engine.forward = forward_if_it_fits


for each in (DeepSpeedEngine, Fsdp2Engine):
    fail_if_short(each)

if __name__ == "__main__":
    _leave(main())
