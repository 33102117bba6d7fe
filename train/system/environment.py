"""Sets the process environment that libraries read when they are imported."""

from __future__ import annotations

import logging
import os
import warnings
from importlib.metadata import version
from pathlib import Path

from train.system.cpu_count import cores_of_rank, cpu_count
from train.system.device import gpu_installed


def prepare_environment() -> None:
    """Quieten libraries, tell DeepSpeed where there is no GPU, and share out the cores.

    What the user has set stays. Call it before torch, DeepSpeed and transformers are imported.
    LOG_LEVEL=INFO brings their chatter back.
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
    _share_cores()
    _record_collectives()
    if gpu_installed():
        _prepare_cuda()
    if level == "WARNING":
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings(
            "ignore", category=UserWarning, module=r"torch|deepspeed|transformers"
        )


def _share_cores() -> None:
    """Give each rank its share of the cores; by itself each would start a thread on all of them."""
    cores = cores_of_rank()
    if not os.environ.get("OMP_NUM_THREADS") and cores < cpu_count():
        os.environ["OMP_NUM_THREADS"] = str(cores)


def _prepare_cuda() -> None:
    # Segments that grow leave no holes that nothing fits in. The second is the name before 2.9.
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    if not any(name in os.environ for name in names):
        os.environ.update(dict.fromkeys(names, "expandable_segments:True"))


def _record_collectives() -> None:
    """Have torch remember the last collectives of each rank, for when one hangs."""
    size, _ = _flight_recorder()
    os.environ.setdefault(size, "2000")
    os.environ.setdefault("TORCH_NCCL_DUMP_ON_TIMEOUT", "1")


def send_flight_records(prefix: Path) -> None:
    """Name the files that NCCL's watchdog writes at a timeout: the prefix and a rank's number."""
    _, file = _flight_recorder()
    os.environ.setdefault(file, str(prefix))


def _flight_recorder() -> tuple[str, str]:
    """Return what torch calls the recorder's size and its file; newer ones warn of old names."""
    major, minor = version("torch").split(".")[:2]
    if (int(major), int(minor)) < (2, 8):
        return "TORCH_NCCL_TRACE_BUFFER_SIZE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"
    return "TORCH_FR_BUFFER_SIZE", "TORCH_FR_DUMP_TEMP_FILE"
