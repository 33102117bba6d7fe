"""The memory that a dry run predicts is what real engines hold, tensor by tensor, just before a
step.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from alphadecay.inspect.plan.memory import predict_memory
from tests.conftest import ROOT
from tests.distributed.harness import init_deepspeed, run_ranks
from train.config.command_line import load_config
from train.engines.deepspeed import build_engine
from train.engines.ds_config import load_ds_config
from train.planning.memory_table import snapshot_bytes
from train.planning.spread import zero_spread

RANKS = 2
LENGTH = 8
CASES = [(stage, precision) for stage in range(4) for precision in ("float32", "bf16")]
ARGUMENTS = (
    "--model.vocab_size=1001",
    "--model.hidden_size=64",
    "--model.intermediate_size=161",
    "--model.num_layers=1",
    "--model.num_heads=2",
    f"--data.sequence_length={LENGTH}",
    "--run.global_batch=4",
    "--run.micro_batch=1",
    "--run.steps=9",
    "--optim.warmup_steps=1",
)


def storages(tensors: Iterable[Any]) -> dict[int, int]:
    """Address -> bytes, each storage once."""
    return {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in tensors
        if isinstance(t, torch.Tensor) and not t.is_meta
    }


def alive() -> list[torch.Tensor]:
    gc.collect()
    return [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]


def settled(parameters: list[Any], before: dict[int, int]) -> int:
    """Return the bytes that are held beside `before`, the least of a few readings.

    A collective is over before gloo's thread lets go of its tensor.
    """
    readings = []
    for _ in range(4):
        now = storages(alive()) | storages(p.grad for p in parameters)
        readings.append(sum(size for address, size in now.items() if address not in before))
        time.sleep(0.02)
    return min(readings)


def small_buckets(stage: int, folder: str) -> str:
    """The shipped configuration with buffers that do not drown a tiny model, and nothing kept
    whole.
    """
    values = json.loads((ROOT / f"ds_configs/zero{stage}.json").read_text())
    zero = values["zero_optimization"]
    zero |= {"reduce_bucket_size": 100} if stage else {}
    zero |= (
        {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": 100}
        if stage == 3
        else {}
    )
    path = Path(folder) / f"zero{stage}.json"
    path.write_text(json.dumps(values))
    return str(path)


def held(rank: int, folder: str) -> dict[tuple[int, str], dict[str, int]]:
    """Bytes by kind in the second step, after backward and before step()."""
    init_deepspeed()
    result: dict[str, Any] = {}
    if rank == 0:
        for stage in range(4):
            small_buckets(stage, folder)
    torch.distributed.barrier()
    for stage, precision in CASES:
        config = load_config(
            [
                *ARGUMENTS,
                f"--deepspeed.config={folder}/zero{stage}.json",
                f"--run.precision={precision}",
            ]
        )
        ds_config = load_ds_config(config, 2, RANKS)
        kept = alive()  # held on to, so that no new tensor takes the address of one of them
        before = storages(kept)
        wrapped = build_engine(config, ds_config)
        engine: Any = wrapped.handle
        tokens = torch.arange(LENGTH)[None]
        most = 0
        for micro_step in range(4):
            engine.backward(engine(input_ids=tokens, labels=tokens).loss)
            parameters = list(engine.module.parameters())
            most = max(most, settled(parameters, before))
            if micro_step < 3:
                engine.step()
        optimizer = engine.basic_optimizer
        weights = storages(getattr(p, "ds_tensor", p) for p in parameters)
        moments = storages(
            v
            for state in optimizer.state.values()
            for v in state.values()
            if getattr(v, "dim", int)()
        )
        # ZeRO-3 hands its optimizer one sub-group at a time.
        flat = getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)
        masters = storages(
            flat
            if flat is not None
            else (p for group in optimizer.param_groups for p in group["params"])
        )
        spread = zero_spread(ds_config, RANKS)
        shapes = [tuple(getattr(p, "ds_shape", p.shape)) for p in parameters]
        predicted = predict_memory(shapes, spread)
        kinds = {
            "weights": sum(weights.values()),
            "optimizer": sum((moments | masters).values()),
            "all": most,
        }
        # After a first step: moments are made there.
        kinds["snapshot"] = wrapped.snapshot_state(Path(folder) / "state", {}).size
        kinds["optimizer"] -= sum(size for address, size in masters.items() if address in weights)
        result[stage, precision] = kinds | {
            f"predicted {name}": size for name, size in vars(predicted).items()
        }
        result[stage, precision]["predicted snapshot"] = snapshot_bytes(predicted, spread)
        engine.destroy()
        del wrapped, engine, optimizer, parameters, flat, kept
    return result


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], dict[str, int]]:
    return run_ranks(RANKS, held, str(tmp_path_factory.mktemp("ds")))[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"zero{case[0]}-{case[1]}")
def test_predicted_memory(measured, case):
    m = measured[case]
    # Padding of shards, and rotary frequencies and scalars, which are not counted.
    assert m["weights"] == pytest.approx(m["predicted weights"], rel=0.005)
    assert m["optimizer"] == pytest.approx(m["predicted optimizer"], rel=0.005)
    assert m["snapshot"] == pytest.approx(m["predicted snapshot"], rel=0.01)  # places are aligned
    whole = sum(m[f"predicted {name}"] for name in ("weights", "gradients", "optimizer"))
    assert m["all"] == pytest.approx(whole, rel=0.02), m
