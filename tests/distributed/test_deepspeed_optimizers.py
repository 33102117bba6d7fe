"""DeepSpeed's own optimizers, named in its JSON: their decay is taken over, and equals the same
optimizer with one group per module.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from alphadecay import AlphaDecay
from tests.distributed import reference
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.wrappers import BF16, RANKS, ROWS, STEPS, train, zero
from train.models.build import build_model

OFFLOADED = {"offload_optimizer": {"device": "cpu"}}
# (name in the JSON, its further parameters, ZeRO stage)
CPU_KERNELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "CPUAdam-decoupled-2": ("AdamW", {}, 2),
    "CPUAdam-decoupled-3": ("Adam", {}, 3),
    "CPUAdam-L2-3": ("Adam", {"adam_w_mode": False}, 3),
    "CPULion-2": ("Lion", {}, 2),
    "CPULion-3": ("Lion", {}, 3),
}
# The same; FusedAdam has a kernel for the CPU too.
FUSED_ADAM: dict[str, tuple[str, dict[str, Any], int]] = {
    "decoupled-2": ("AdamW", {}, 2),
    "decoupled-3": ("Adam", {}, 3),
    "L2-2": ("Adam", {"adam_w_mode": False}, 2),
}


def engine_of(config: dict[str, Any], decays: dict[str, float] | None) -> Any:
    """With one group, or with one group per parameter, each with its own decay.

    Stage 0 in bf16 takes a step while it initialises: with the base decay, as ours does, and then
        forgotten.
    """
    import deepspeed

    model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
    for name, parameter in model.named_parameters():
        parameter.use_muon = name in reference.layer_weights(model)
    groups: Any = list(model.parameters())
    own: list[float] = []
    if decays is not None:
        base = {
            n: reference.WEIGHT_DECAY if len(getattr(p, "ds_shape", p.shape)) > 1 else 0.0
            for n, p in model.named_parameters()
        }
        own = [decays.get(n, base[n]) for n in base]
        groups = [
            {"params": [p], "weight_decay": decay} for p, decay in zip(groups, own, strict=True)
        ]
    if "bf16" not in config or decays is None:
        return deepspeed.initialize(model=model, model_parameters=groups, config=config)[0]
    engine = deepspeed.initialize(
        model=model, model_parameters=[{"params": g["params"]} for g in groups], config=config
    )[0]
    for group, decay in zip(engine.basic_optimizer.param_groups, own, strict=True):
        group["weight_decay"] = decay
    engine.basic_optimizer.state.clear()
    return engine


def config_of(
    kind: str, more: dict[str, Any], stage: int, offload: dict[str, Any]
) -> dict[str, Any]:
    params = {"lr": reference.LR, "weight_decay": reference.WEIGHT_DECAY, **more}
    return {
        "train_micro_batch_size_per_gpu": ROWS // RANKS,
        "gradient_clipping": 0.5,
        "steps_per_print": 10**9,
        "optimizer": {"type": kind, "params": params},
        **zero(stage, **offload),
    }


def trained(engine: Any, rank: int, steps: int) -> dict[str, torch.Tensor]:
    """The weights, by name; in bf16 the float32 copies that are stepped, since 16 bits would hide a
    decay.
    """
    weights = train(engine, rank, steps)
    if not engine.bfloat16_enabled():
        return weights
    flat = torch.cat([group.detach() for group in engine.optimizer.fp32_groups_flat])
    return dict(
        zip(weights, flat.split([weight.numel() for weight in weights.values()]), strict=True)
    )


def both(rank: int, config: dict[str, Any], steps: int = STEPS) -> dict[str, Any]:
    init_deepspeed()
    engine = engine_of(config, None)
    decay = AlphaDecay(engine, interval=10**6)
    ours = trained(engine, rank, steps)
    theirs = trained(engine_of(config, decay.weight_decays), rank, steps)
    uniform = trained(engine_of(config, {}), rank, steps)
    optimizer = type(engine.basic_optimizer).__name__
    found = {
        "ours": ours,
        "theirs": theirs,
        "uniform": uniform,
        "optimizer": optimizer,
        "decays": decay.weight_decays,
    }
    return found | {"wrapper": type(engine.optimizer).__name__}


def check(ranks: list[dict[str, Any]], optimizer: str, tolerance: float = 1e-6) -> None:
    first = ranks[0]
    assert first["optimizer"] == optimizer
    assert len(set(first["decays"].values())) == 14
    assert all(rank["decays"] == first["decays"] for rank in ranks)
    for name, weight in first["theirs"].items():
        # The kernels fuse multiply and add, and add the norm group by group: last bits of float32.
        torch.testing.assert_close(
            first["ours"][name], weight, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    for name in first["decays"]:
        assert float((first["ours"][name] - first["uniform"][name]).abs().max()) > 5 * tolerance, (
            name
        )


@pytest.fixture(scope="module")
def kernels() -> None:
    """Compiled here once, not by two ranks at a time; DeepSpeed keeps them for the next run."""
    if not shutil.which("g++") or not shutil.which("ninja"):
        pytest.skip("DeepSpeed compiles its CPU optimizers with g++ and ninja, which are not here")
    from deepspeed.ops.op_builder import CPUAdamBuilder, CPULionBuilder, FusedAdamBuilder

    for builder in (CPUAdamBuilder, CPULionBuilder, FusedAdamBuilder):
        builder().load(verbose=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", CPU_KERNELS)
def test_cpu_kernels_under_offload(kernels: None, name: str) -> None:
    kind, more, stage = CPU_KERNELS[name]
    ranks = run_ranks(RANKS, both, config_of(kind, more, stage, OFFLOADED))
    check(ranks, "DeepSpeed" + name.split("-")[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", FUSED_ADAM)
def test_fused_adam_on_a_cpu(kernels: None, name: str) -> None:
    check(run_ranks(RANKS, both, config_of(*FUSED_ADAM[name], {})), "FusedAdam")


@pytest.mark.slow
def test_fused_adam_at_stage_0_in_bf16(kernels: None) -> None:
    """DeepSpeed flattens each group whole here, in a wrapper that it makes for FusedAdam alone.

    One step: its last bits would round the 16-bit weights, and so the next gradients, otherwise.
        They are 7e-9 of the largest weights.
    """
    ranks = run_ranks(RANKS, both, config_of("AdamW", {}, 0, {}) | BF16, 1)
    assert ranks[0]["wrapper"] == "FP16_Optimizer"
    check(ranks, "FusedAdam", tolerance=2e-8)


@pytest.mark.slow  # Muon compiles its iteration
@pytest.mark.parametrize("stage", [1, 2])
def test_muon(stage: int) -> None:
    config = config_of("Muon", {"muon_lr": 1e-2, "adam_lr": reference.LR}, stage, {})
    check(run_ranks(RANKS, both, config), "MuonWithAuxAdam")


def test_muon_beside_an_adam_with_a_penalty_is_refused() -> None:
    model = torch.nn.Linear(16, 16)

    def step(self: Any, closure: Any = None) -> Any:
        return torch.optim.Adam.step(self, closure)

    # DeepSpeed's own class cannot be made without ranks; what tells it is where its step() stands.
    step.__module__ = "deepspeed.runtime.zero.muon.original_muon"
    kind = type("MuonWithAuxAdam", (torch.optim.Adam,), {"step": step})
    optimizer = kind(
        [{"params": [model.weight], "use_muon": True}, {"params": [model.bias]}], weight_decay=0.1
    )
    optimizer.adam_w_mode = False
    with pytest.raises(ValueError, match="set adam_w_mode to true"):
        AlphaDecay(model, optimizer)


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="the CUDA kernels; FusedAdam's for the CPU is tested above, FusedLion has none",
)
@pytest.mark.parametrize("kind", ["Adam", "Lion"])
def test_fused_kernels_on_a_gpu(kind: str) -> None:
    from deepspeed.ops.adam import FusedAdam
    from deepspeed.ops.lion import FusedLion

    from tests.unit.alphadecay.nets import Net

    optimizer_class = {"Adam": FusedAdam, "Lion": FusedLion}[kind]
    model = Net().cuda()
    twin = Net().cuda()
    optimizer = optimizer_class(model.parameters(), lr=1e-2, weight_decay=0.1)
    decays = AlphaDecay(model, optimizer).weight_decays
    groups = [
        {"params": [p], "weight_decay": decays.get(n, 0.0 if p.dim() < 2 else 0.1)}
        for n, p in twin.named_parameters()
    ]
    twins = optimizer_class(groups, lr=1e-2)
    for step in range(3):
        for net, stepping in ((model, optimizer), (twin, twins)):
            chance = torch.Generator().manual_seed(step)
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=chance).cuda()
            stepping.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        # fused multiply-adds round once
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)
