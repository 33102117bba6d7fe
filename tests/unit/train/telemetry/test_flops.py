"""FLOPs of a token against torch's own count, and the peak that MFU is stated against."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from train.config import ModelConfig
from train.model import build_model
from train.telemetry.flops import PEAK_BF16, Peak, find_peak, flops_per_token
from train.world import World

CPU = World(0, 0, 1, torch.device("cpu"))
SHAPES = [
    ModelConfig(vocab_size=96, hidden_size=32, intermediate_size=88, num_layers=3, num_heads=4, attention="eager"),
    ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4, num_kv_heads=2, attention="eager"),
]


@pytest.mark.parametrize("model", SHAPES, ids=["multi-head", "grouped queries"])
@pytest.mark.parametrize("length", [16, 64])
def test_against_torchs_counter(model, length):
    llama = build_model(model, length, seed=1)
    tokens = torch.randint(0, model.vocab_size, (2, length))
    with FlopCounterMode(display=False) as counter:
        llama(input_ids=tokens, labels=tokens).loss.backward()
    # The rotary angles are an outer product, which torch counts and the model does not learn through.
    rotary = 2 * (model.hidden_size // model.num_heads // 2) * length
    counted = counter.get_total_flops()
    assert counted - flops_per_token(model, length) * tokens.numel() in (0, rotary, 2 * rotary)


def test_the_60m_model_by_hand():
    weights = 8 * (4 * 512 * 512 + 3 * 512 * 1376) + 512 * 32000
    assert flops_per_token(ModelConfig(), 256) == 6 * weights + 12 * 8 * 512 * 256


def test_a_peak_given_is_taken():
    assert find_peak(312.0, torch.float32, CPU) == Peak(312.0, "log.peak_tflops")


def test_a_cpu_is_measured():
    peak = find_peak("auto", torch.float32, CPU)
    assert "measured: float32 matmul" in peak.source and 1e-4 < peak.tflops < 1e3


@pytest.mark.parametrize(
    ("device", "expected"),
    [("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756.5), ("NVIDIA H100 NVL", 835.5), ("NVIDIA A100-SXM4-80GB", 312.0),
     ("NVIDIA L40S", 362.05), ("NVIDIA L4", 121.0), ("NVIDIA A10G", 70.0), ("NVIDIA GH200 480GB", 989.4), ("NVIDIA H200", 989.4)],
)  # fmt: skip
def test_a_known_gpu_is_looked_up(monkeypatch, device, expected):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: device)
    peak = find_peak("auto", torch.bfloat16, World(0, 0, 1, torch.device("cuda", 0)))
    assert peak.tflops == expected and peak.source == f"{device}, dense bf16, data sheet"


@pytest.mark.parametrize("device", ["NVIDIA L40", "NVIDIA GB200", "Tesla T4", "NVIDIA RTX A1000"])
def test_a_name_that_only_looks_alike_is_not_taken(device):
    assert not [name for name in PEAK_BF16 if re.search(rf"\b{name}\b", device)]
