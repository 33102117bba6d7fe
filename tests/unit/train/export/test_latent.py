"""An export of a quantised model holds its latent weights: what they compute as they are, and with
the lines of the card.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.train.export.test_hf_model_card import checkpoint_of
from train.config import ModelConfig
from train.export.card_sources import Exported
from train.export.hf_model_card import model_card
from train.export.latent import KEY, compute_as_trained, mark_latent
from train.models.build import build_model

TOKENS = torch.arange(24).view(2, 12)
TOKENIZER = re.compile(r"^tokenizer = .*", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module", params=["b158-mean", "b158-median"])
def trained(request, tmp_path_factory) -> tuple[torch.nn.Module, Path]:
    """A quantised model and the folder of its export."""
    config = ModelConfig(
        vocab_size=67,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=2,
        quantize=request.param,
    )
    model = build_model(config, 12, seed=3).eval()
    mark_latent(model.config, request.param)
    folder = tmp_path_factory.mktemp("export")
    model.save_pretrained(folder)
    return model, folder


def logits_of(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def test_plain_transformers_computes_the_latent_model(trained):
    model, folder = trained
    kind = json.loads((folder / "config.json").read_text())[KEY]
    assert kind == model.config.latent_weights
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert all(torch.equal(w, model.state_dict()[name]) for name, w in plain.state_dict().items())
    assert not torch.allclose(logits_of(plain), logits_of(model), atol=1e-2)


def test_this_programs_commands_compute_the_trained_one(trained):
    model, folder = trained
    opened = AutoModelForCausalLM.from_pretrained(folder).eval()
    compute_as_trained(opened)
    assert torch.equal(logits_of(opened), logits_of(model))


def test_the_lines_of_the_card_compute_it_too(trained, tmp_path):
    model, folder = trained
    kind = model.config.latent_weights
    exported = Exported(checkpoint_of(tmp_path / "run"), "llama", 1, "float32", kind)
    card = model_card(exported)
    assert "latent\nweights that the optimizer had" in card and kind.split("-")[1] in card
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    scope: dict[str, object] = {}
    exec(TOKENIZER.sub("", lines).replace('"."', repr(str(folder))), scope)
    opened = scope["model"]
    assert isinstance(opened, torch.nn.Module)
    # their product is rounded once more: by the scale before and not after it
    torch.testing.assert_close(logits_of(opened.eval()), logits_of(model), rtol=0, atol=1e-3)


def test_a_card_of_a_plain_model_says_nothing_of_it(tmp_path):
    card = model_card(Exported(checkpoint_of(tmp_path / "run"), "llama", 1, "float32"))
    assert "latent" not in card and "ternary" not in card
