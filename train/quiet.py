"""Libraries' chatter hides what matters; LOG_LEVEL=INFO brings it back."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path


def quiet() -> None:
    """Before torch, DeepSpeed and transformers are imported; also tells DeepSpeed where there is no
    GPU.
    """
    level = os.environ.get("LOG_LEVEL", "WARNING").upper()
    os.environ.setdefault("DS_ACCELERATOR", "" if _has_gpu() else "cpu")
    if not os.environ["DS_ACCELERATOR"]:
        del os.environ["DS_ACCELERATOR"]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # transformers' bar over a model's tensors
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", level.lower())
    logging.getLogger("DeepSpeed").setLevel(level)
    if level == "WARNING":
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings(
            "ignore", category=UserWarning, module=r"torch|deepspeed|transformers"
        )


def _has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()
