"""Inside an accumulation window the host never waits for the device, but that ZeRO-3 itself waits
for its reductions after each backward pass.

On a GPU torch itself refuses what waits. Elsewhere the values that the host reads are counted: each
would be a wait. At the window's end it reads the norm of the gradients, whatever is done.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.conftest import ROOT
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.windows import LENGTH, MICRO_STEPS, build, micro_step


class CountReads(TorchDispatchMode):
    """Counts values that the host reads of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        self.reads += name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select")
        return func(*args, **(kwargs or {}))


def reads(rank: int) -> dict[str, list[int]]:
    """Count by micro step, in a second window."""
    init_deepspeed()
    found: dict[str, list[int]] = {}
    for stage, bf16 in ((1, False), (1, True), (2, True), (3, True)):
        engine = build(stage, bf16)
        batch = torch.randint(67, (2, LENGTH))
        for _ in range(MICRO_STEPS):
            micro_step(engine, batch)
        counts = []
        for _ in range(MICRO_STEPS):
            with CountReads() as counted:
                micro_step(engine, batch)
            counts.append(counted.reads)
        found[f"ZeRO-{stage}, bf16 {bf16}"] = counts
    return found


def test_the_host_reads_nothing_inside_a_window():
    [found] = run_ranks(1, reads)
    for counts in found.values():
        assert counts[:-1] == [0] * (MICRO_STEPS - 1)
        assert counts[-1] > 0  # what is counted does happen


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("stage", [1, 3])
def test_on_a_gpu_torch_finds_no_wait_inside_a_window(stage: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.distributed.windows", str(stage), f"{tmp_path}/meet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
