"""Ranks without a wrapper that AlphaDecay knows: replicas are compared and share the work; what
differs is refused on all; one rank's failure is every rank's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from alphadecay import AdamW, AlphaDecay, refresh
from alphadecay.refresh import SpectralRefresh
from alphadecay.spectral import estimate
from alphadecay.spectral.solving import Way
from tests.distributed.harness import run_ranks
from tests.unit.alphadecay.nets import Plain, shrinkage

LR = 1e-2


def stock(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)


def error_of(make: Any) -> str:
    try:
        make()
    except (RuntimeError, ValueError) as error:
        return str(error)
    return ""


def bare_rank(rank: int) -> dict[str, Any]:
    model = Plain()
    wrapped = DistributedDataParallel(model)
    decay = AlphaDecay(wrapped.module, stock(model))
    return {"decays": decay.weight_decays, "owners": decay.plan.owners}


def test_the_module_inside_ddp_shares_the_work() -> None:
    model = Plain()
    alone = AlphaDecay(model, stock(model)).weight_decays
    for rank in run_ranks(2, bare_rank):
        assert rank["decays"] == alone
        assert set(rank["owners"].values()) == {0, 1}


def measuring_rank(rank: int) -> dict[str, Any]:
    """The first rank finds float64 cheap, the other would find otherwise."""
    measured = []

    def known_ways(shapes: Iterable[Any], device: torch.device) -> dict[Any, Way]:
        measured.append(device)
        way = Way(torch.float64, "threads") if rank == 0 else Way()
        return dict.fromkeys(shapes, way)

    refresh.known_ways = known_ways
    SpectralRefresh._device = lambda self: torch.device("cuda")
    model = Plain()
    decay = AlphaDecay(DistributedDataParallel(model), stock(model))
    return {"alphas": decay.alphas, "measured": len(measured), "ways": decay._spectra._solver.ways}


def test_every_rank_solves_as_the_first_has_measured() -> None:
    ranks = run_ranks(2, measuring_rank)
    assert [rank["measured"] for rank in ranks] == [1, 0]
    assert set(ranks[0]["ways"].values()) == {Way(torch.float64, "threads")}
    assert ranks[0]["ways"] == ranks[1]["ways"]
    for name, weight in Plain().named_parameters():
        if name in ranks[0]["alphas"]:
            alone = float(estimate(weight, precision=torch.float64).alpha)
            assert [rank["alphas"][name] for rank in ranks] == [alone, alone]


def differing_rank(rank: int) -> str:
    model = Plain()
    with torch.no_grad():
        model.mix.weight[0, 0] += rank
    return error_of(lambda: AlphaDecay(model, stock(model)))


def test_plain_models_that_differ_are_refused() -> None:
    for said in run_ranks(2, differing_rank):
        assert said.startswith("the weights of Plain, which is neither wrapped nor sharded, differ")


def stage_rank(rank: int) -> str:
    """Two pipeline stages, each sharded over two ranks."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("stage", "shard"))
    model = nn.Sequential()
    model.add_module(f"layer{rank // 2}", nn.Linear(24, 24))
    fully_shard(model, mesh=mesh["shard"])
    return error_of(lambda: AlphaDecay(model, stock(model)))


def test_pipeline_stages_are_refused() -> None:
    for said in run_ranks(4, stage_rank):
        assert "mesh axis 'stage' has 2 pipeline stages, which hold other layers each" in said


def zero_redundancy_rank(rank: int, kind: type) -> list[float]:
    model = Plain(norm=True)
    wrapped = DistributedDataParallel(model)
    optimizer = ZeroRedundancyOptimizer(wrapped.parameters(), kind, lr=LR, weight_decay=0.1)
    decay = AlphaDecay(wrapped, optimizer)
    apart = []
    for _ in range(2):
        left = shrinkage(model, optimizer)
        decay.step()
        apart += [abs(left[n] - (1 - LR * d)) for n, d in decay.weight_decays.items()]
        apart.append(abs(left["norm.weight"] - 1.0))
    return apart


@pytest.mark.parametrize("kind", [torch.optim.AdamW, AdamW])
def test_zero_redundancy_optimizer(kind: type) -> None:
    for apart in run_ranks(2, zero_redundancy_rank, kind):
        assert len(apart) == 8 and max(apart) < 1e-6


def failing_rank(rank: int, kind: str, spread: int) -> tuple[str, str, bool]:
    """An owner meets an error in a refresh; what all ranks raise, and whether they go on then."""
    model = Plain()
    if kind == "fsdp2":
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    wrapped = model if kind == "fsdp2" else DistributedDataParallel(model)
    optimizer = stock(model)
    decay = AlphaDecay(wrapped, optimizer, interval=4, spread=spread)
    before = decay.weight_decays
    real = torch.linalg.eigvalsh

    def fails(*args: Any, **options: Any) -> Any:
        raise torch.OutOfMemoryError("no memory left")

    if rank == 1:
        torch.linalg.eigvalsh = fails
    said = "" if spread else error_of(decay.refresh)
    for _ in range(3 + spread if spread else 0):  # taken after step 3, solved until step 5
        optimizer.step()
        said = said or error_of(decay.step)
    torch.linalg.eigvalsh = real
    names = [name for name, owner in decay.plan.owners.items() if owner == 1]
    decay.refresh()
    dist.barrier()
    return said, names[0], decay.weight_decays == before


@pytest.mark.parametrize(("kind", "spread"), [("ddp", 0), ("fsdp2", 0), ("ddp", 2)])
def test_an_owners_failure_reaches_all(kind: str, spread: int) -> None:
    ranks = run_ranks(2, failing_rank, kind, spread)
    assert ranks[0] == ranks[1]
    said, name, same = ranks[0]
    assert "AlphaDecay: rank 1 could not measure" in said and name in said
    assert "OutOfMemoryError: no memory left" in said and same


def unshared_rank(rank: int, kind: str) -> dict[str, Any]:
    """A weight that the wrapper leaves to each rank: alike, other at a refresh, other from the
    start, and left out.
    """

    def wrap(model: Plain) -> nn.Module:
        if kind == "fsdp2":
            mesh = init_device_mesh("cpu", (2,))
            return fully_shard(model, mesh=mesh, ignored_params={model.mix.weight})
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ["mix.weight"])
        return DistributedDataParallel(model)

    def differ(model: Plain) -> Plain:
        with torch.no_grad():
            model.mix.weight[0, 0] += rank
        return model

    model = Plain()
    decay = AlphaDecay(wrap(model), stock(model))
    found: dict[str, Any] = {"decays": decay.weight_decays}
    differ(model)
    found["at a refresh"] = error_of(decay.refresh)
    other = differ(Plain())
    wrapped = wrap(other)
    found["at first"] = error_of(lambda: AlphaDecay(wrapped, stock(other)))
    left = AlphaDecay(wrapped, stock(other), exclude=["mix.weight"])
    found["left"] = list(left.weight_decays)
    return found


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_weights_that_are_each_ranks_own_are_refused(kind: str) -> None:
    model = Plain()
    alone = AlphaDecay(model, stock(model)).weight_decays
    for found in run_ranks(2, unshared_rank, kind):
        assert found["decays"] == pytest.approx(alone, rel=1e-6)
        for when in ("at first", "at a refresh"):
            assert "mix.weight is another weight on ranks [1] than on the rest" in found[when]
        assert found["left"] == ["up.weight", "down.weight"]
