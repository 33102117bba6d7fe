"""What a rank's memory holds at most while a model is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.forked import fork, wait_for_ranks
from train.config import ModelConfig
from train.models.build import build_model, count_parameters

# Many small matrices: what threads draw ahead of their turn is little beside the model.
MODEL = ModelConfig(
    vocab_size=1000, hidden_size=512, intermediate_size=1376, num_layers=12, num_heads=8
)
CLEAR = Path("/proc/self/clear_refs")


def resident(name: str) -> int:
    """Bytes: VmRSS is what is resident, VmHWM the most since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measure(dtype: torch.dtype, result: str) -> None:
    """Write the bytes a parameter that making the model has taken at most."""
    build_model(ModelConfig(vocab_size=9, hidden_size=8, num_layers=1, num_heads=1), 12, seed=0)
    CLEAR.write_text("5")  # forget the most so far
    before = resident("VmRSS")
    model = build_model(MODEL, 12, seed=0, dtype=dtype)
    most = resident("VmHWM") - before
    Path(result).write_text(str(most / count_parameters(model)))


@pytest.mark.skipif(not CLEAR.exists(), reason="needs Linux's record of the most memory resident")
@pytest.mark.parametrize(("dtype", "size"), [(torch.bfloat16, 2), (torch.float32, 4)])
def test_no_second_model_while_one_is_made(dtype: torch.dtype, size: int, tmp_path: Path) -> None:
    process = fork(measure, dtype, str(tmp_path / "bytes"))
    assert wait_for_ranks([process]) == 0
    # And up to a byte for what is drawn ahead and not handed back to the system.
    assert size * 0.9 < float((tmp_path / "bytes").read_text()) < size + 1.0


def test_bf16_weights_are_the_float32_ones_rounded_once() -> None:
    small = ModelConfig(
        vocab_size=67, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=2
    )
    wide = build_model(small, 12, seed=3)
    narrow = build_model(small, 12, seed=3, dtype=torch.bfloat16)
    assert count_parameters(narrow) == count_parameters(wide)
    for (name, one), (_, other) in zip(
        wide.named_parameters(), narrow.named_parameters(), strict=True
    ):
        assert other.dtype == torch.bfloat16
        assert torch.equal(one.bfloat16(), other), name
    buffers = dict(narrow.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in wide.named_buffers())
