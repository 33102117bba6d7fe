"""Freed memory stays with the process, unless the user has a say in it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from train.system import malloc

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's alone"
)
# Minor faults of eight rounds of tensors, as those of a step, after the first.
AGAIN = """
import resource
import torch
from train.system.malloc import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def round_of_tensors():
    tensors = [torch.ones(millions << 20) for millions in (16, 8, 8, 16)]
    doubled = [tensor * 2 for tensor in tensors]
    del tensors
    return [tensor + 1 for tensor in doubled]

print(keep_freed_memory())
round_of_tensors()
before = faults()
for _ in range(8):
    round_of_tensors()
print(faults() - before)
"""
GIVEN_BACK = {"MALLOC_TRIM_THRESHOLD_": "131072"}  # glibc's default, but a user's word


def again(**variables: str) -> tuple[str, int]:
    """Return what a fresh process said of itself, and its faults."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", AGAIN],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


def test_what_was_freed_is_taken_again_without_the_kernel():
    kept, faults = again()
    assert kept == "True"
    _, given_back = again(**GIVEN_BACK)
    assert faults < given_back / 4


@pytest.mark.parametrize(
    "variables",
    [GIVEN_BACK, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}],
    ids=["variable", "tunable"],
)
def test_what_the_user_has_set_stays(variables):
    kept, _ = again(**variables)
    assert kept == "False"


def test_another_c_library_is_left_alone(monkeypatch):
    for name in malloc._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: object())
    assert not malloc.keep_freed_memory()
