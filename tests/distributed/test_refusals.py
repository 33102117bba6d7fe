"""What the library refuses rather than do wrongly, provoked on real engines and real DTensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from alphadecay import AdamW, AlphaDecay
from alphadecay.baselines.gradient_decay import GradientDecay
from alphadecay.baselines.uniform import bind_uniform
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.wrappers import BF16, zero

CONTROLLERS: dict[str, Callable[..., Any]] = {
    "AlphaDecay": AlphaDecay,
    "GradientDecay": lambda model, optimizer=None: GradientDecay(model, optimizer, rule="awd"),
    "bind_uniform": bind_uniform,
}


def engine_of(config: dict[str, Any]) -> Any:
    import deepspeed

    init_deepspeed()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24), nn.Linear(24, 16))
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    config = {"train_micro_batch_size_per_gpu": 1, "steps_per_print": 10**9, **config}
    return deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]


def refusal(make: Callable[..., Any], *args: Any) -> str:
    """What the ValueError says; empty where there is none."""
    try:
        make(*args).remove()
    except ValueError as error:
        return str(error)
    return ""


def second_argument_rank(rank: int, stage: int) -> dict[str, tuple[str, list[str]]]:
    engine = engine_of(zero(stage))
    other = AdamW([nn.Parameter(torch.ones(2, 2))], weight_decay=0.3)
    own = [engine.basic_optimizer, engine.optimizer]
    return {
        name: (
            refusal(controller, engine, other),
            [refusal(controller, engine, optimizer) for optimizer in own],
        )
        for name, controller in CONTROLLERS.items()
    }


@pytest.mark.parametrize("stage", [0, 3])
def test_an_engine_beside_another_optimizer(stage: int) -> None:
    (said,) = run_ranks(1, second_argument_rank, stage)
    assert said.keys() == CONTROLLERS.keys()
    for other, own in said.values():
        assert "the AdamW given is not the optimizer of the DeepSpeed engine" in other
        assert "leave the second argument out" in other
        assert own == ["", ""]


def coarse_rank(rank: int, stage: int) -> tuple[str, list[float]]:
    coarse = {"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
    engine = engine_of({"bf16": coarse} | zero(stage))
    said = refusal(AlphaDecay, engine)
    return said, [group["weight_decay"] for group in engine.basic_optimizer.param_groups]


@pytest.mark.parametrize("stage", [2, 3])
def test_master_weights_in_16_bits(stage: int) -> None:
    ((said, groups),) = run_ranks(1, coarse_rank, stage)
    assert said.startswith(
        "the optimizer's master weights are torch.bfloat16, in which decay is lost; keep them in "
        "float32"
    )
    assert groups == [0.1]  # what is refused is left as it was


def unknown_rank(rank: int) -> str:
    class LaterWrapper:
        """A wrapper of a DeepSpeed to come."""

        param_groups: tuple[()] = ()

    engine = engine_of(BF16 | zero(2))
    engine.optimizer = LaterWrapper()
    return refusal(AlphaDecay, engine)


def test_a_wrapper_of_unknown_layout() -> None:
    (said,) = run_ranks(1, unknown_rank)
    assert (
        "wrapped the optimizer in LaterWrapper, whose layout this version does not know; use ZeRO "
        "stage 0 to 3" in said
    )


def slices_rank(rank: int) -> tuple[list[str], dict[str, float], dict[str, float]]:
    """Refusals of tensor-parallel models; and the alphas of one whose slices are rows on one mesh,
    as FSDP2's are, beside the whole's.
    """
    mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("dp", "tp"))

    def controller(style: Any, sharded_too: bool = False) -> AlphaDecay:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 24), nn.Linear(24, 16))
        if style is not None:
            parallelize_module(model[0], mesh["tp"], style)
        if sharded_too:
            fully_shard(model, mesh=mesh["dp"])
        return AlphaDecay(model, AdamW(model.parameters(), weight_decay=0.1))

    refused = [refusal(controller, RowwiseParallel()), refusal(controller, ColwiseParallel(), True)]
    normed = nn.Sequential(nn.Linear(16, 24), nn.LayerNorm(24))
    parallelize_module(normed, mesh["tp"], {"0": ColwiseParallel(), "1": SequenceParallel()})
    refused.append(
        refusal(lambda: AlphaDecay(normed, AdamW(normed.parameters(), weight_decay=0.1)))
    )
    return refused, controller(ColwiseParallel()).alphas, controller(None).alphas


def test_tensor_parallel_slices() -> None:
    for refused, rows, whole in run_ranks(2, slices_rank):
        columns, strided, norm = refused
        assert "0.bias [24] is placed as (Replicate(),)" in columns  # of a layer cut by columns
        assert "0.weight [24, 16] is placed as (_StridedShard" in strided
        assert "1.weight [24] is placed as (Replicate(),)" in norm
        assert all("tensor-parallel slices are not supported" in message for message in refused)
        assert rows == pytest.approx(whole, rel=1e-6)
