"""Sets the process environment that libraries read when they are imported."""

from __future__ import annotations

import logging
import os
import warnings

from train.system.device import gpu_installed


def prepare_environment() -> None:
    """Quieten libraries, and tell DeepSpeed where there is no GPU.

    Call it before torch, DeepSpeed and transformers are imported. LOG_LEVEL=INFO brings their
    chatter back.
    """
    level = os.environ.get("LOG_LEVEL", "WARNING").upper()
    os.environ.setdefault("DS_ACCELERATOR", "" if gpu_installed() else "cpu")
    if not os.environ["DS_ACCELERATOR"]:
        del os.environ["DS_ACCELERATOR"]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # transformers would show a bar over a model's tensors.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", level.lower())
    logging.getLogger("DeepSpeed").setLevel(level)
    if level == "WARNING":
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings(
            "ignore", category=UserWarning, module=r"torch|deepspeed|transformers"
        )
