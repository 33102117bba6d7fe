"""The vision transformer: its size, its parts, its stochastic depth, and timm's weights in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from alphadecay import AdamW, AlphaDecay, pl_alpha_hill
from train.config import ModelConfig
from train.config.command_line import load_config
from train.config.recipe_file import RECIPES
from train.errors import UserError
from train.models import spec_of
from train.models.build import build_model, count_parameters, model_on_meta
from train.models.drop_path import DropPath

TOY = ModelConfig(
    architecture="vit",
    hidden_size=32,
    intermediate_size=64,
    num_layers=3,
    num_heads=2,
    image_size=16,
    patch_size=8,
    num_labels=10,
    drop_path=0.4,
)
POSITIONS = 5
PIXELS = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_vit_tiny_is_deits():
    model = load_config(["--config", str(RECIPES / "vit_tiny.yaml")]).model
    # arXiv 2012.12877, table 1: 5 M; timm counts 5,717,416
    assert count_parameters(model_on_meta(model, 197)) == 5_717_416


def test_every_parameter_has_a_part():
    spec = spec_of(TOY)
    for name, _ in model_on_meta(TOY, POSITIONS).named_parameters():
        assert any(word in name for word in spec.parts.values()), name


def test_flops_are_those_of_the_matmuls():
    from torch.utils.flop_counter import FlopCounterMode

    model = replace(TOY, attention="eager")
    module = build_model(model, POSITIONS, 0)
    counter = FlopCounterMode(display=False)
    with counter:
        module(pixel_values=PIXELS)
    rows = len(PIXELS) * POSITIONS
    ours = rows * spec_of(model).flops_per_token(model, POSITIONS) / 3  # the forward's
    assert ours == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_weights_are_drawn_with_the_published_deviation():
    module = build_model(replace(TOY, hidden_size=64), POSITIONS, 3)
    for name, weight in module.named_parameters():
        if weight.dim() > 1:
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.2), name
        else:
            assert set(weight.tolist()) == {0.0 if name.endswith("bias") else 1.0}, name


def test_drop_path_grows_from_layer_to_layer_and_rests_in_evaluation():
    module = build_model(TOY, POSITIONS, 0)
    layers = spec_of(TOY).layers(module)
    assert [layer.dropout.rate for layer in layers] == [0, 0.2, 0.4]
    with torch.no_grad():
        assert not torch.equal(module(PIXELS).logits, module(PIXELS).logits)
        module.eval()
        assert torch.equal(module(PIXELS).logits, module(PIXELS).logits)
    plain = build_model(replace(TOY, drop_path=0.0), POSITIONS, 0).eval()
    with torch.no_grad():
        assert torch.equal(module(PIXELS).logits, plain(PIXELS).logits)
    assert plain.state_dict().keys() == module.state_dict().keys()


def test_drop_path_keeps_the_mean_and_drops_whole_rows():
    torch.manual_seed(0)
    dropped = DropPath(0.25)(torch.ones(4000, 2, 3))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))
    assert float(dropped.mean()) == pytest.approx(1, abs=0.03)  # 3 sd


def test_recomputed_layers_drop_the_same_paths():
    gradients: list[list[Tensor]] = []
    for recompute in (False, True):
        module = build_model(replace(TOY, activation_checkpointing=recompute), POSITIONS, 0)
        torch.manual_seed(5)
        module(PIXELS).logits.square().sum().backward()
        gradients.append([p.grad for p in module.parameters() if p.grad is not None])
    assert all(map(torch.equal, *gradients))


def test_alphadecay_takes_every_matrix_of_the_layers_and_no_other():
    module = build_model(TOY, POSITIONS, 0)
    optimizer = AdamW(module.parameters(), weight_decay=0.1)
    decay = AlphaDecay(module, optimizer, interval=10)
    expected = {
        f"vit.layers.{layer}.{name}.weight"
        for layer in range(3)
        for name in (
            *(f"attention.{part}_proj" for part in "qkvo"),
            "mlp.fc1",
            "mlp.fc2",
        )
    }
    assert decay.alphas.keys() == expected
    named = dict(module.named_parameters())
    for name, alpha in decay.alphas.items():
        assert alpha == pytest.approx(pl_alpha_hill(named[name].detach()), rel=1e-6)


def test_fewer_key_value_heads_are_refused():
    with pytest.raises(UserError, match=r"model.num_kv_heads is 1, and vit has as many as heads"):
        model_on_meta(replace(TOY, num_kv_heads=1), POSITIONS)


def of_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename timm's weights as transformers has them; its queries, keys and values are one."""
    renamed = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "blocks": "vit.layers",
        "head": "classifier",
    }
    found = {}
    for name, weight in state.items():
        for theirs, ours in renamed.items():
            name = name.replace(theirs, ours)
        if name.startswith("norm."):
            name = f"vit.layer{name}"
        if "attn.qkv" in name:
            for part, piece in zip("qkv", weight.chunk(3), strict=True):
                found[name.replace("attn.qkv", f"attention.{part}_proj")] = piece
        else:
            found[name] = weight
    return found


def test_timms_deit_tiny_gives_the_same_logits():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    torch.manual_seed(0)
    theirs = timm.create_model("deit_tiny_patch16_224", pretrained=False).eval()
    model = load_config(["--config", str(RECIPES / "vit_tiny.yaml")]).model
    ours = build_model(model, 197, 0).eval()
    ours.load_state_dict(of_timm(theirs.state_dict()))
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(pixels).logits, theirs(pixels), rtol=0, atol=2e-5)
