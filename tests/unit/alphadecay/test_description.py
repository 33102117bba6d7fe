"""What was chosen, in words: a line a weight, a sentence in all, a warning where it looks wrong."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import nn

from alphadecay import AdamW, AlphaDecay
from alphadecay.description import Description, describe
from alphadecay.modules import choose_modules


class Model(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.tokens = nn.Embedding(200, 32)
        self.qkv = nn.Linear(32, 96)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(layers))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 200, bias=False)


def described(model: nn.Module, **choices: object) -> Description:
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    choice = choose_modules(model)
    return describe(choice, decay.alphas, decay.statuses, decay.weight_decays, **choices)  # type: ignore[arg-type]


def test_one_sentence() -> None:
    text = described(Model(3))
    assert text.summary == (
        "6 of 14 weights have an alpha; 2 left at the base decay: tokens.weight (it is an "
        "embedding), head.weight (it is the output head); 6 gains and biases with no decay"
    )
    assert "6 gains and biases with the base decay" in described(Model(3), exempt=False).summary
    assert text.warnings == ()


def test_a_line_for_each_weight() -> None:
    model = Model(3)
    with torch.no_grad():
        model.layers[1].weight.zero_()
    lines = str(described(model)).splitlines()
    assert len(lines) == 1 + 3 + 3 + 2
    assert lines[1] == "tokens.weight    200 x 32  base decay, because it is an embedding"
    (query,) = [line for line in lines if line.startswith("qkv.weight[q]")]
    assert " 32 x 32  alpha " in query and ", decay 0." in query
    (zero,) = [line for line in lines if line.startswith("layers.1.weight")]
    assert "base decay 0.1, because it is zero: it is the zero matrix; skip the module" in zero


def test_many_left_are_counted() -> None:
    model = Model(2)
    with torch.no_grad():
        for layer in model.layers:
            layer.weight.fill_(math.inf)
    text = described(model)
    assert text.with_alpha == 3
    assert "4 left at the base decay: tokens.weight (it is an embedding)" in text.summary
    assert "and 1 more" in text.summary


def test_few_with_an_alpha_are_warned_of() -> None:
    model = Model(3)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name == "layers.0.weight")
    (warning,) = described(model).warnings
    assert warning.startswith("1 of 12 weights have an alpha")
    assert "LoRA" in warning and "include=[...]" in warning


def test_a_norm_in_the_place_of_alpha_is_named() -> None:
    text = described(Model(3), score="frobenius_norm")
    assert text.summary.startswith("6 of 14 weights have a frobenius_norm")
    assert "  frobenius_norm " in str(text)


def test_alphadecay_says_what_it_chose(caplog: pytest.LogCaptureFixture) -> None:
    model = Model(3)
    with caplog.at_level(logging.INFO, logger="alphadecay"):
        decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1), interval=50)
    said = [record.getMessage() for record in caplog.records]
    text = (repr(decay), decay.describe())
    decay.remove()
    summary = described(model).summary
    assert said == [f"AlphaDecay: {summary}"]
    assert text[0] == f"AlphaDecay({summary}; refreshed every 50 steps, last at step 0)"
    assert text[1] == str(described(model))


def test_a_warning_is_logged_as_one(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 64))
    AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    levels = {record.levelno for record in caplog.records}
    said = caplog.text
    assert levels >= {logging.WARNING}
    assert "1.weight [64, 32] is the last linear weight and the widest" in said
    assert "with fewer than 4 there is little to compare" in said


def test_a_layer_that_is_trained_later_is_warned_of_at_a_refresh(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Model(3)
    later = model.get_parameter("layers.1.weight")
    later.requires_grad_(False)
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    caplog.clear()
    decay.refresh()
    assert not caplog.records
    later.requires_grad_(True)
    decay.refresh()
    assert "1 weight not trained when it was made, and trained now, such as layers.1" in caplog.text
