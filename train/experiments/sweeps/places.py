"""Shares out GPUs and cores among runs that go on at the same time."""

from __future__ import annotations

import os
import sys

from train.errors import UserError
from train.system.cpu_count import cpu_count
from train.system.device import gpu_installed


def places(ranks: int, jobs: int) -> list[dict[str, str]]:
    """Return, for each run at a time, the variables that keep it off the others' GPUs and cores."""
    common = {"PYTHON": sys.executable, "PYTHONUNBUFFERED": "1"}
    if jobs == 1:
        return [common]
    gpus = _gpus()
    if not gpus:
        threads = max(1, cpu_count() // (jobs * ranks))
        given = os.environ.get("OMP_NUM_THREADS", str(threads))
        return [common | {"OMP_NUM_THREADS": given}] * jobs
    if len(gpus) < jobs * ranks:
        fits = f"--jobs {len(gpus) // ranks}" if len(gpus) >= ranks else f"--ranks {len(gpus)}"
        raise UserError(
            f"--jobs {jobs} runs of {ranks} ranks need {jobs * ranks} GPUs, and there are "
            f"{len(gpus)}; {fits} fits"
        )
    return [
        common | {"CUDA_VISIBLE_DEVICES": ",".join(gpus[slot * ranks : (slot + 1) * ranks])}
        for slot in range(jobs)
    ]


def _gpus() -> list[str]:
    """Return the GPUs, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return []
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    if not gpu_installed():
        return []
    import torch  # not above: a sweep on CPUs need not wait for it

    return [str(gpu) for gpu in range(torch.cuda.device_count())]
