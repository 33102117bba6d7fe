"""Experts of every layout: each matrix is what the model's own forward takes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay import AdamW, AlphaDecay, pl_alpha_hill
from alphadecay.modules import find_modules

E, H, I = 3, 40, 24  # noqa: E741


class Experts(nn.Module):
    def __init__(self, transposed: bool, alternating: bool = False) -> None:
        super().__init__()
        up = (E, H, 2 * I) if transposed else (E, 2 * I, H)
        down = (E, I, H) if transposed else (E, H, I)
        self.gate_up_proj = nn.Parameter(torch.randn(up))
        self.gate_up_proj_bias = nn.Parameter(torch.randn(E, 2 * I))
        self.down_proj = nn.Parameter(torch.randn(down))
        if alternating:
            self.is_concatenated = False


class GptOssExperts(Experts):
    """As in a transformers that does not say is_concatenated."""


def matrices(experts: nn.Module) -> dict[str, torch.Tensor]:
    model = nn.Module()
    model.experts = experts
    found = {}
    for module in find_modules(model):
        start, stop = module.flat_range
        matrix = module.matrix(module.parameter.detach().reshape(-1)[start:stop])
        assert tuple(matrix.shape) == module.shape
        found[module.name.removeprefix("experts.")] = matrix
    return found


LAYOUTS = {
    "[E, 2I, H]": (Experts(False), lambda w, h: w[h * I : (h + 1) * I]),
    "[E, H, 2I]": (Experts(True), lambda w, h: w[:, h * I : (h + 1) * I]),
    "alternating": (Experts(True, True), lambda w, h: w[:, h::2]),
    "alternating rows": (Experts(False, True), lambda w, h: w[h::2]),
    "gpt-oss": (GptOssExperts(True), lambda w, h: w[:, h::2]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gate_and_up_of_every_expert(layout: str) -> None:
    experts, half = LAYOUTS[layout]
    found = matrices(experts)
    assert len(found) == 3 * E
    for expert in range(E):
        weight = experts.gate_up_proj[expert].detach()
        assert torch.equal(found[f"gate_up_proj[{expert}.gate]"], half(weight, 0))
        assert torch.equal(found[f"gate_up_proj[{expert}.up]"], half(weight, 1))
        assert torch.equal(found[f"down_proj[{expert}]"], experts.down_proj[expert])


def test_a_split_that_the_user_gives_goes_before() -> None:
    model = nn.Module()
    model.experts = Experts(True)
    modules = find_modules(
        model,
        include=["*gate_up_proj"],
        splits={"*gate_up_proj": {"gate": 1, "up": 1, "repeat": I}},
    )
    start, stop = modules[1].flat_range
    found = modules[1].matrix(model.experts.gate_up_proj.detach().reshape(-1)[start:stop])
    assert torch.equal(found, model.experts.gate_up_proj[0].detach()[:, 1::2])


@pytest.mark.parametrize("kind", ["llama4", "gpt-oss"])
def test_a_model_of_transformers(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    small = {
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_local_experts": 2,
        "pad_token_id": 0,
    }
    if kind == "llama4":
        config = transformers.Llama4TextConfig(
            **small, intermediate_size_mlp=96, moe_layers=[0], num_experts_per_tok=1
        )
        model = transformers.Llama4ForCausalLM(config)
        halves = {"gate": slice(0, 48), "up": slice(48, 96)}
    else:
        config = transformers.GptOssConfig(**small, num_experts_per_tok=2)
        model = transformers.GptOssForCausalLM(config)
        halves = {"gate": slice(0, None, 2), "up": slice(1, None, 2)}
    named = dict(model.named_parameters())
    name = next(name for name in named if name.endswith("experts.gate_up_proj"))
    with torch.no_grad():
        named[name].normal_(std=0.02)
        heavy = torch.randn(64, 4) @ torch.randn(4, 48) * 0.05  # the gate alone is heavy-tailed
        named[name][0][:, halves["gate"]] += heavy
    decay = AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))
    expected = {
        part: pl_alpha_hill(named[name][0].detach()[:, columns]) for part, columns in halves.items()
    }
    assert expected["up"] - expected["gate"] > 0.4
    for part, alpha in expected.items():
        assert decay.alphas[f"{name}[0.{part}]"] == pytest.approx(alpha, rel=1e-5)


@pytest.mark.parametrize(("group", "refused"), [("ep_size_2", True), ("ep_size_1", False)])
def test_experts_that_differ_by_rank_are_refused(group: str, refused: bool) -> None:
    model = nn.ModuleDict({"q": nn.Linear(16, 16, bias=False)})
    model["moe"] = nn.ModuleDict({"deepspeed_experts": nn.Linear(16, 16, bias=False)})
    expert = model["moe"]["deepspeed_experts"].weight
    expert.allreduce = False  # type: ignore[attr-defined]
    expert.group_name = group  # type: ignore[attr-defined]
    if not refused:
        assert len(find_modules(model)) == 2
        return
    with pytest.raises(
        ValueError, match=r"deepspeed_experts\.weight is another expert on each rank"
    ):
        find_modules(model)
    found = find_modules(model, exclude=["*.deepspeed_experts.*"])
    assert [module.name for module in found] == ["q.weight"]
