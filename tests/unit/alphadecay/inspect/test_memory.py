"""A folder of some gigabytes takes a bounded memory, measured by what the process held."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alphadecay.inspect.analysis.side_by_side import MOST_BYTES

COUNT = 36
SHAPE = (256, 131072)
BYTES = 2 * SHAPE[0] * SHAPE[1]  # of a matrix in bf16: 64 MiB, all of them 2.25 GiB
_PROGRAM = """
import sys
import alphadecay
alphadecay.analyze(sys.argv[1])
peak = open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]
print(int(peak) * 1024)
"""


def peak(path: Path, root: Path) -> int:
    """Return the most bytes that a process held which analysed the model."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path)],
        cwd=root,
        text=True,
        capture_output=True,
        timeout=600,
        check=True,
    )
    return int(done.stdout)


def write_safetensors(path: Path, count: int) -> Path:
    """Write a file of zeros: a hole, so that it takes no room."""
    entries = {
        f"layers.{place}.up_proj.weight": {
            "dtype": "BF16",
            "shape": list(SHAPE),
            "data_offsets": [place * BYTES, (place + 1) * BYTES],
        }
        for place in range(count)
    }
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + count * BYTES)
    return path


@pytest.mark.slow
def test_safetensors_take_what_is_measured_at_once(tmp_path: Path, root: Path) -> None:
    one = peak(write_safetensors(tmp_path / "one.safetensors", 1), root)
    many = peak(write_safetensors(tmp_path / "many.safetensors", COUNT), root)
    # what the allocator keeps of a matrix and its float32 copy
    assert many - one < MOST_BYTES + 3 * BYTES < COUNT * BYTES


@pytest.mark.slow
def test_a_mapped_file_takes_a_gibibyte_more_at_most(tmp_path: Path, root: Path) -> None:
    held = {f"layers.{n}.up_proj.weight": torch.zeros(SHAPE).bfloat16() for n in range(COUNT)}
    torch.save(held, tmp_path / "many.bin")
    one = peak(write_safetensors(tmp_path / "one.safetensors", 1), root)
    many = peak(tmp_path / "many.bin", root)
    mapped = 1 << 30
    assert many - one < mapped + MOST_BYTES + 3 * BYTES < COUNT * BYTES
