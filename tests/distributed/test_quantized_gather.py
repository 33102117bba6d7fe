"""ZeRO++ quantises weights where it gathers them for the forward pass; spectra come from the
shards, which stay as they are.

The quantiser itself is a CUDA kernel: here a plain one in torch stands in for it, so that
    DeepSpeed's own path runs on a CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alphadecay import AdamW
from tests.distributed import reference
from tests.distributed.harness import run_ranks
from tests.distributed.zero3 import ROWS, build, ds_config, one_step
from train.models.build import build_model


class Rounding:
    """Symmetric 8-bit quantisation of a whole tensor. Counts its calls."""

    calls = 0

    def quantize(
        self, values: torch.Tensor, groups: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        Rounding.calls += 1
        scale = values.float().abs().max().clamp(min=1e-12).reshape(1) / 127
        return (values.float() / scale).round().to(torch.int8), scale

    def dequantize(
        self, quantized: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        # one group a rank; the last may lack its padding
        a_group = -(-quantized.numel() // scale.numel())
        scales = scale.repeat_interleave(a_group)[: quantized.numel()].view(quantized.shape)
        return (quantized.float() * scales).to(dtype or torch.float32)


def gathered_rank(rank: int) -> dict[str, Any]:
    from deepspeed.runtime.zero import partition_parameters

    partition_parameters.CUDAQuantizer = Rounding
    engine, decay = build(AdamW, ds_config(2, ROWS // 2, zero_quantized_weights=True))
    one_step(engine, decay, 1, rank, 2, ROWS // 2)
    return {"decays": decay.weight_decays, "calls": Rounding.calls}


def test_decays_are_those_of_the_exact_weights() -> None:
    weights = reference.layer_weights(build_model(reference.TINY, reference.LENGTH, seed=7))
    exact = reference.linear_decays(weights)
    stand_in = Rounding()
    rounded = reference.linear_decays(
        {
            name: stand_in.dequantize(*stand_in.quantize(w)).view(w.shape)
            for name, w in weights.items()
        }
    )
    ranks = run_ranks(2, gathered_rank)
    assert all(rank["calls"] for rank in ranks)  # the forward pass did gather quantised weights
    assert ranks[0]["decays"] == ranks[1]["decays"]
    assert ranks[0]["decays"] == pytest.approx(exact, rel=1e-4)
    assert exact != pytest.approx(rounded, rel=1e-4)  # and rounding would have shown
