"""A loss or gradient that is not finite on one rank: every rank skips that step, and goes on as if
its batch had never been.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.distributed as dist

from tests.conftest import ROOT
from tests.distributed.harness import init_deepspeed, run_ranks

STEPS = 4
BAD = 2
MICRO = 2
KEYS = {
    "model": {
        "vocab_size": 64,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_layers": 1,
        "num_heads": 2,
    },
    "data": {"sequence_length": 8},
    "run": {"global_batch": 2 * MICRO, "micro_batch": 1, "steps": STEPS},
    "optim": {"warmup_steps": 0, "weight_decay": 0.1},
}
LAYOUTS = [("zero0", "float32"), ("zero2", "bf16"), ("zero3", "float32")]
MORE = [
    ("zero0", "bf16"),
    ("zero1", "float32"),
    ("zero1", "bf16"),
    ("zero2", "float32"),
    ("zero3", "bf16"),
    ("zero2_offload", "float32"),
    ("zero3_offload", "bf16"),
]


def configuration(stage, precision):
    from train.config.command_line import load_config

    keys = [
        f"--{section}.{key}={value}"
        for section, values in KEYS.items()
        for key, value in values.items()
    ]
    path = str(ROOT / "ds_configs" / f"{stage}.json")
    return load_config(
        [
            *keys,
            f"--run.precision={precision}",
            "--decay.method=uniform",
            f"--deepspeed.config={path}",
        ]
    )


def snapshot(engine):
    """This rank's masters and moments, copied."""
    inner = getattr(engine.optimizer, "optimizer", engine.optimizer)
    # stage 3 shows its groups one at a time
    masters = getattr(engine.optimizer, "fp32_partitioned_groups_flat", None)
    found = []
    for parameter in masters or [p for group in inner.param_groups for p in group["params"]]:
        state = inner.state.get(parameter, {})
        found += [
            parameter.detach().clone(),
            *(state[key].detach().clone() for key in sorted(state) if torch.is_tensor(state[key])),
        ]
    return found


def train(rank, config, ds_config, bad):
    """Steps 1 .. STEPS as the loop takes them; at BAD one micro batch of rank 1 goes wrong as `bad`
    says, or is left out where None.
    """
    from train.engines.deepspeed import build_engine
    from train.loop.stopping.guard import poison_nonfinite_loss

    engine = build_engine(config, ds_config).handle
    applied = []
    states = []
    for step in range(1, STEPS + 1):
        generator = torch.Generator().manual_seed(10 * step + rank)
        if step == BAD and bad is None:
            states.append(snapshot(engine))
            continue
        for micro in range(MICRO):
            tokens = torch.randint(0, 64, (1, 8), generator=generator)
            loss = engine(input_ids=tokens, labels=tokens).loss
            if step == BAD and rank == 1 and micro == 0:
                loss = loss + bad if isinstance(bad, float) else spoil(loss)
            engine.backward(poison_nonfinite_loss(loss))
            engine.step()
        applied.append(engine.was_step_applied())
        states.append(snapshot(engine))
    return applied, states, engine.skipped_steps


def spoil(loss):
    """The same value; its gradient is NaN."""
    loss = loss * 1.0
    loss.register_hook(lambda gradient: gradient * math.nan)
    return loss


def compare(rank, stage, precision):
    from train.engines.ds_config import load_ds_config

    init_deepspeed()
    config = configuration(stage, precision)
    ds_config = load_ds_config(config, MICRO, 2)
    _, expected, _ = train(rank, config, json.loads(json.dumps(ds_config)), None)
    results = {}
    for bad in (math.nan, math.inf, "gradient"):
        applied, states, skipped = train(rank, config, json.loads(json.dumps(ds_config)), bad)
        equal = [
            all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
            for one, two in zip(states, expected, strict=True)
        ]
        finite = all(bool(tensor.isfinite().all()) for tensor in states[-1])
        moved = not all(torch.equal(a, b) for a, b in zip(states[0], states[-1], strict=True))
        results[str(bad)] = (applied, equal, finite, moved, skipped)
        dist.barrier()
    return results


@pytest.mark.parametrize(
    ("stage", "precision"),
    [*LAYOUTS, *(pytest.param(*layout, marks=pytest.mark.slow) for layout in MORE)],
)
def test_the_step_is_skipped_alike_and_leaves_no_trace(stage, precision):
    for rank, results in enumerate(run_ranks(2, compare, stage, precision)):
        for bad, (applied, equal, finite, moved, skipped) in results.items():
            assert applied == [step != BAD for step in range(1, STEPS + 1)], (rank, bad)
            assert equal == [True] * STEPS and finite and moved, (rank, bad, equal)
            assert skipped == 1, (rank, bad)
