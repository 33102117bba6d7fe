"""What the ranks of the tests need, imported once by the server that they are forked from; half of a rank's time was imports."""

from __future__ import annotations

import os

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")

import torch.distributed.fsdp
import torch.distributed.tensor  # noqa: F401
from transformers import LlamaForCausalLM  # noqa: F401

import alphadecay  # noqa: F401
import train.engine  # noqa: F401
