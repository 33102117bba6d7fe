"""AlphaDecay on torchtitan's own OptimizersContainer: one process, and two ranks under FSDP2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import run_ranks
from tests.integrations import loops

pytestmark = pytest.mark.integrations
titan: Any = pytest.importorskip(
    "torchtitan.components.optimizer", reason="made by make integrations"
)
from alphadecay.integrations.torchtitan import AlphaDecayOptimizersContainer  # noqa: E402

STEPS = 12
INTERVAL = 4
OWN_NAMES = {"ours": AdamW, "Muon": torch.optim.Muon}


class MoreOptimizers:
    """Adds optimizers that torchtitan has no names for, as its users do."""

    @staticmethod
    def _resolve_optimizer_factory(name: str) -> Callable[..., torch.optim.Optimizer]:
        if name in OWN_NAMES:
            return OWN_NAMES[name]
        return titan.OptimizersContainer._resolve_optimizer_factory(name)

    @staticmethod
    def _build_impl_kwargs(config: Any) -> dict[str, Any]:
        return {}  # torch's Muon knows neither fused nor foreach


class StockContainer(MoreOptimizers, titan.OptimizersContainer):
    @dataclass(kw_only=True, slots=True)
    class Config(titan.OptimizersContainer.Config):
        pass


class Container(MoreOptimizers, AlphaDecayOptimizersContainer):
    @dataclass(kw_only=True, slots=True)
    class Config(AlphaDecayOptimizersContainer.Config):
        pass


def groups(kind: str) -> list[Any]:
    adamw = {"lr": loops.ADAMW.lr, "weight_decay": loops.ADAMW.weight_decay}
    muon = {"lr": loops.MUON.lr, "weight_decay": loops.MUON.weight_decay}
    everything = titan.ParamGroupConfig(
        pattern=".*",
        optimizer_name="ours" if kind == "ours" else "AdamW",
        optimizer_kwargs=adamw,
    )
    if kind != "muon":
        return [everything]
    matrices = titan.ParamGroupConfig(
        pattern=r"(up|down|mix)\.weight", optimizer_name="Muon", optimizer_kwargs=muon
    )
    return [matrices, everything]


def built(kind: str, model: torch.nn.Module, **options: Any) -> Any:
    config = Container.Config(
        param_groups=groups(kind), alphadecay={"interval": INTERVAL, **options}
    )
    return config.build(model_parts=[model])


def train(model: torch.nn.Module, optimizers: Any, first: int, steps: int) -> None:
    for step in range(first, first + steps):
        input_ids = loops.tokens(step)
        loops.loss_of(model(input_ids), input_ids).backward()
        optimizers.step()
        optimizers.zero_grad()


def zero_gradient_step(model: torch.nn.Module, kind: str) -> AlphaDecay:
    optimizers = built(kind, model)
    optimizers.state_dict()

    def step() -> None:
        loops.zero_loss(model).backward()
        optimizers.step()
        optimizers.zero_grad()

    loops.check_zero_gradient_step(model, optimizers.decay, step, kind)
    train(model, optimizers, 0, 2)
    assert optimizers.decay.last_refresh_step == INTERVAL
    return optimizers.decay


@pytest.mark.parametrize("kind", loops.OPTIMIZERS)
def test_a_zero_gradient_step_decays_by_module(kind: str) -> None:
    zero_gradient_step(loops.Net(), kind)


def on_a_rank(rank: int) -> list[dict[str, float]]:
    decays = []
    for kind in loops.OPTIMIZERS:
        model = loops.Net()
        fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
        decays.append(zero_gradient_step(model, kind).weight_decays)
    return decays


def test_a_zero_gradient_step_decays_by_module_on_two_ranks() -> None:
    ranks = run_ranks(2, on_a_rank)
    assert ranks[0] == ranks[1]
    assert [len(set(decays.values())) for decays in ranks[0]] == [3, 3, 3]


@pytest.mark.parametrize("kind", loops.OPTIMIZERS)
def test_the_stock_container_is_opened(kind: str) -> None:
    model = loops.Net()
    container: Any = StockContainer.Config(param_groups=groups(kind)).build(model_parts=[model])
    decay = AlphaDecay(model, container, interval=INTERVAL)

    def step() -> None:
        loops.zero_loss(model).backward()
        container.step()

    loops.check_zero_gradient_step(model, decay, step, kind)


def test_a_second_controller_is_refused() -> None:
    model = loops.Net()
    optimizers = built("muon", model)
    first = AlphaDecay(model, optimizers)
    with pytest.raises(ValueError, match="has an AlphaDecay already"):
        optimizers.step()
    first.remove()
    optimizers.step()
    assert optimizers.decay is not None


def test_trains_as_a_plain_loop() -> None:
    model = loops.Net()
    optimizers = built("stock", model)
    train(model, optimizers, 0, STEPS)
    plain = loops.Net()
    plain_optimizers = loops.stock(plain)
    decay = AlphaDecay(plain, plain_optimizers, interval=INTERVAL)
    loops.train(plain, plain_optimizers, decay, STEPS)
    assert optimizers.decay.state_dict() == decay.state_dict()
    weights = loops.snapshot(model)
    assert all(torch.equal(weights[name], weight) for name, weight in loops.snapshot(plain).items())


@pytest.mark.parametrize("spread", [0, 3])
@pytest.mark.parametrize("kind", loops.OPTIMIZERS)
def test_a_checkpoint_goes_on_as_if_uninterrupted(tmp_path: Path, kind: str, spread: int) -> None:
    whole = loops.Net()
    oracle = built(kind, whole, spread=spread)
    train(whole, oracle, 0, 6)
    dcp.save({"model": whole.state_dict(), "optimizer": oracle}, checkpoint_id=tmp_path)
    train(whole, oracle, 6, STEPS - 6)
    resumed = loops.Net()
    optimizers = built(kind, resumed, spread=spread)
    loaded = {"model": resumed.state_dict(), "optimizer": optimizers}
    dcp.load(loaded, checkpoint_id=tmp_path)
    train(resumed, optimizers, 6, STEPS - 6)
    assert optimizers.decay.state_dict() == oracle.decay.state_dict()
    weights = loops.snapshot(resumed)
    assert all(torch.equal(weights[name], weight) for name, weight in loops.snapshot(whole).items())


def test_hooks_on_the_container_run_once_a_step() -> None:
    model = loops.Net()
    optimizers = built("stock", model)
    calls: list[int] = []
    optimizers.register_step_pre_hook(lambda *_: calls.append(1))
    train(model, optimizers, 0, 3)
    assert len(calls) == 3


def test_an_unknown_option_is_refused_as_by_alphadecay() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'intervall'"):
        built("stock", loops.Net(), intervall=4)


def test_a_model_in_parts_is_refused() -> None:
    config = Container.Config(param_groups=groups("stock"))
    with pytest.raises(ValueError, match="2 parts on this rank; use one pipeline stage"):
        config.build(model_parts=[loops.Net(), loops.Net()])
