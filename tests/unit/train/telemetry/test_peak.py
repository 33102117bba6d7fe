"""The peak that MFU is stated against."""

import re

import pytest
import torch

from alphadecay.inspect.plan.known_peaks import PEAK_BF16
from train.cluster.distributed import World
from train.telemetry.peak import Peak, find_peak

CPU = World(0, 0, 1, torch.device("cpu"))


def test_a_peak_given_is_taken():
    assert find_peak(312.0, torch.float32, CPU) == Peak(312.0, "log.peak_tflops")


def test_a_cpu_is_measured():
    peak = find_peak("auto", torch.float32, CPU)
    assert "measured: float32 matmul" in peak.source and 1e-4 < peak.tflops < 1e3


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA L4", 121.0),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA H200", 989.4),
    ],
)
def test_a_known_gpu_is_looked_up(monkeypatch, device, expected):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: device)
    peak = find_peak("auto", torch.bfloat16, World(0, 0, 1, torch.device("cuda", 0)))
    assert peak.tflops == expected and peak.source == f"{device}, dense bf16, data sheet"


@pytest.mark.parametrize("device", ["NVIDIA L40", "NVIDIA GB200", "Tesla T4", "NVIDIA RTX A1000"])
def test_a_name_that_only_looks_alike_is_not_taken(device):
    assert not [name for name in PEAK_BF16 if re.search(rf"\b{name}\b", device)]
