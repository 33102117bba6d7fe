"""What the ranks of the tests need, imported once by the server that they are forked from; most of
a rank's time was imports.
"""

from __future__ import annotations

import os
from importlib import import_module

os.environ["DS_ACCELERATOR"] = "cpu"
os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")

for name in (
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "transformers.models.llama.modeling_llama",
    # deepspeed.initialize imports it, and with it the compiler
    "deepspeed.runtime.zero.muon.original_muon",
    "alphadecay.controller",
    "alphadecay.baselines.gradient_decay",
    "train.engine",
):
    import_module(name)
