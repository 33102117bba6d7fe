"""Quantised weights are named, and what belongs to them is no weight."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alphadecay.inspect.models import find_weights
from alphadecay.inspect.sources import open_source

PLAIN = {"model.layers.0.mlp.up_proj.weight": torch.randn(16, 12)}
Q = "model.layers.0.self_attn.q_proj"
INTEGERS = torch.ones(8, 12, dtype=torch.int32)


@pytest.mark.parametrize(
    ("tensors", "named", "words"),
    [
        (
            {f"{Q}.qweight": INTEGERS, f"{Q}.qzeros": INTEGERS, f"{Q}.scales": torch.ones(2, 12)},
            f"{Q}.qweight",
            "packed, as GPTQ and AWQ do",
        ),
        (
            {
                f"{Q}.weight": torch.ones(72, 1, dtype=torch.uint8),
                f"{Q}.weight.absmax": torch.ones(4),
                f"{Q}.weight.quant_map": torch.ones(16),
                f"{Q}.weight.quant_state.bitsandbytes__nf4": torch.ones(4, dtype=torch.uint8),
            },
            f"{Q}.weight",
            "uint8 codes",
        ),
        (
            {f"{Q}.weight": torch.ones(8, 12, dtype=torch.int8), f"{Q}.SCB": torch.ones(8)},
            f"{Q}.weight",
            "int8 codes",
        ),
        (
            {
                f"{Q}.weight": torch.ones(8, 12).to(torch.float8_e4m3fn),
                f"{Q}.weight_scale_inv": torch.ones(2, 2),
            },
            f"{Q}.weight",
            "8-bit floats with scales",
        ),
        (
            {
                f"{Q}.weight": torch.ones(8, 12).to(torch.float8_e4m3fn),
                f"{Q}.scale": torch.ones(2, 2),
            },
            f"{Q}.weight",
            "8-bit floats with scales",
        ),
        (
            {
                "model.layers.0.mlp.experts.down_proj_blocks": torch.ones(
                    4, 8, 2, 16, dtype=torch.uint8
                ),
                "model.layers.0.mlp.experts.down_proj_scales": torch.ones(
                    4, 8, 2, dtype=torch.uint8
                ),
            },
            "model.layers.0.mlp.experts.down_proj_blocks",
            "in blocks of MXFP4",
        ),
    ],
    ids=["gptq", "bnb-4bit", "bnb-8bit", "fp8", "fp8-deepseek", "mxfp4"],
)
def test_it_is_named_and_the_rest_is_measured(
    tensors: dict[str, torch.Tensor], named: str, words: str, tmp_path: Path
) -> None:
    torch.save({**PLAIN, **tensors}, tmp_path / "model.pt")
    weights = find_weights(open_source(tmp_path / "model.pt"))
    assert weights.set_aside == {named: f"it is quantised: {words}"}
    assert [weight.name for weight in weights.measured] == list(PLAIN)
    assert set(weights.left_out) == set(tensors) - {named}


def test_8_bit_floats_without_scales_are_plain(tmp_path: Path) -> None:
    weight = torch.randn(16, 12).to(torch.float8_e5m2)
    torch.save({f"{Q}.weight": weight}, tmp_path / "model.pt")
    weights = find_weights(open_source(tmp_path / "model.pt"))
    assert [w.name for w in weights.measured] == [f"{Q}.weight"] and not weights.set_aside


def test_counts_and_masks_are_no_quantised_weights(tmp_path: Path) -> None:
    more = {"bn.num_batches_tracked": torch.tensor(3), "h.mask": torch.ones(1, 1, 4, 4).bool()}
    torch.save({**PLAIN, **more}, tmp_path / "model.pt")
    weights = find_weights(open_source(tmp_path / "model.pt"))
    assert not weights.set_aside
    assert set(weights.left_out.values()) == {"it holds no real floats"}


def test_where_all_is_quantised_all_of_it_is_named(tmp_path: Path) -> None:
    held = {f"{Q}.qweight": INTEGERS, "model.embed_tokens.weight": torch.randn(40, 12)}
    torch.save(held, tmp_path / "model.pt")
    weights = find_weights(open_source(tmp_path / "model.pt"))
    assert not weights.measured and set(weights.set_aside) == {f"{Q}.qweight"}
    assert weights.left_out == {"model.embed_tokens.weight": "it is an embedding"}
