"""DeepSpeed's own optimizers, named in its JSON: their decay is taken over, and equals the same optimizer with one group per module."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from alphadecay import AlphaDecay
from tests.distributed import reference
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.test_wrappers import RANKS, ROWS, train, zero
from train.model import build_model

OFFLOADED = {"offload_optimizer": {"device": "cpu"}}
# (name in the JSON, its further parameters, ZeRO stage)
CPU_KERNELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "CPUAdam-decoupled-2": ("AdamW", {}, 2),
    "CPUAdam-decoupled-3": ("Adam", {}, 3),
    "CPUAdam-L2-3": ("Adam", {"adam_w_mode": False}, 3),
    "CPULion-2": ("Lion", {}, 2),
    "CPULion-3": ("Lion", {}, 3),
}


def engine_of(config: dict[str, Any], decays: dict[str, float] | None) -> Any:
    """With one group, or with one group per parameter, each with its own decay."""
    import deepspeed

    model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
    for name, parameter in model.named_parameters():
        parameter.use_muon = name in reference.layer_weights(model)
    groups: Any = list(model.parameters())
    if decays is not None:
        groups = [
            {"params": [p], "weight_decay": decays.get(n, reference.WEIGHT_DECAY if len(getattr(p, "ds_shape", p.shape)) > 1 else 0.0)}
            for n, p in model.named_parameters()
        ]
    engine, *_ = deepspeed.initialize(model=model, model_parameters=groups, config=config)
    return engine


def config_of(kind: str, more: dict[str, Any], stage: int, offload: dict[str, Any]) -> dict[str, Any]:
    params = {"lr": reference.LR, "weight_decay": reference.WEIGHT_DECAY, **more}
    return {
        "train_micro_batch_size_per_gpu": ROWS // RANKS, "gradient_clipping": 0.5, "steps_per_print": 10**9,
        "optimizer": {"type": kind, "params": params}, **zero(stage, **offload),
    }  # fmt: skip


def both(rank: int, config: dict[str, Any]) -> dict[str, Any]:
    init_deepspeed()
    engine = engine_of(config, None)
    decay = AlphaDecay(engine, interval=10**6)
    ours = train(engine, rank)
    theirs = train(engine_of(config, decay.weight_decays), rank)
    uniform = train(engine_of(config, {}), rank)
    optimizer = type(engine.basic_optimizer).__name__
    return {"ours": ours, "theirs": theirs, "uniform": uniform, "optimizer": optimizer, "decays": decay.weight_decays}


def check(ranks: list[dict[str, Any]], optimizer: str) -> None:
    first = ranks[0]
    assert first["optimizer"] == optimizer
    assert len(set(first["decays"].values())) == 14
    assert all(rank["decays"] == first["decays"] for rank in ranks)
    for name, weight in first["theirs"].items():
        # The kernels fuse multiply and add, and add the norm group by group: last bits of float32.
        torch.testing.assert_close(first["ours"][name], weight, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    for name in first["decays"]:
        assert float((first["ours"][name] - first["uniform"][name]).abs().max()) > 5e-6, name


@pytest.fixture(scope="module")
def kernels() -> None:
    """Compiled here once, not by two ranks at a time; DeepSpeed keeps them for the next run."""
    if not shutil.which("g++") or not shutil.which("ninja"):
        pytest.skip("DeepSpeed compiles its CPU optimizers with g++ and ninja, which are not here")
    from deepspeed.ops.op_builder import CPUAdamBuilder, CPULionBuilder

    CPUAdamBuilder().load(verbose=False)
    CPULionBuilder().load(verbose=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", CPU_KERNELS)
def test_cpu_kernels_under_offload(kernels: None, name: str) -> None:
    kind, more, stage = CPU_KERNELS[name]
    ranks = run_ranks(RANKS, both, config_of(kind, more, stage, OFFLOADED))
    check(ranks, "DeepSpeed" + name.split("-")[0])


@pytest.mark.slow  # Muon compiles its iteration
@pytest.mark.parametrize("stage", [1, 2])
def test_muon(stage: int) -> None:
    config = config_of("Muon", {"muon_lr": 1e-2, "adam_lr": reference.LR}, stage, {})
    check(run_ranks(RANKS, both, config), "MuonWithAuxAdam")


def test_muon_beside_an_adam_with_a_penalty_is_refused() -> None:
    model = torch.nn.Linear(16, 16)
    optimizer = torch.optim.Adam([{"params": [model.weight], "use_muon": True}, {"params": [model.bias]}], weight_decay=0.1)
    optimizer.adam_w_mode = False
    with pytest.raises(ValueError, match="set adam_w_mode to true"):
        AlphaDecay(model, optimizer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="FusedAdam and FusedLion are CUDA kernels")
@pytest.mark.parametrize("kind", ["Adam", "Lion"])
def test_fused_kernels_on_a_gpu(kind: str) -> None:
    from deepspeed.ops.adam import FusedAdam
    from deepspeed.ops.lion import FusedLion

    from tests.unit.alphadecay.test_controller import Net

    optimizer_class = {"Adam": FusedAdam, "Lion": FusedLion}[kind]
    model, twin = Net().cuda(), Net().cuda()
    optimizer = optimizer_class(model.parameters(), lr=1e-2, weight_decay=0.1)
    decays = AlphaDecay(model, optimizer).weight_decays
    groups = [{"params": [p], "weight_decay": decays.get(n, 0.0 if p.dim() < 2 else 0.1)} for n, p in twin.named_parameters()]
    twins = optimizer_class(groups, lr=1e-2)
    for step in range(3):
        for net, stepping in ((model, optimizer), (twin, twins)):
            chance = torch.Generator().manual_seed(step)
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=chance).cuda()
            stepping.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)  # fused multiply-adds round once
