"""Learning rates by alpha (LLR, arXiv 2605.22297) of DeepSpeed's Muon under ZeRO-1: two ranks
against one, where every parameter has a group and its rate is worked out here from spectra in
float64.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from alphadecay import AlphaDecay
from tests.distributed import reference
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.wrappers import ROWS, zero
from tests.distributed.wrapping import gathered
from train.models.build import build_model

STEPS = 4
INTERVAL = 2
RAMP = 2
MUON_LR = 1e-2
ADAM_LR = 2e-3
ENDS = ("model.embed_tokens.weight", "lm_head.weight")
# Muon's iteration runs in bf16, where the last bits of a gradient become 2^-9 of an update, whose
# elements are below 1; its rate is at most 5 * MUON_LR.
TOLERANCE = STEPS * 5 * MUON_LR / 512


def build_engine(world: int, by_parameter: bool) -> Any:
    import deepspeed

    init_deepspeed()
    torch.compiler.set_stance("force_eager")  # compiling Muon's iteration takes a minute
    options = {
        "muon_lr": MUON_LR,
        "adam_lr": ADAM_LR,
        "weight_decay": reference.WEIGHT_DECAY,
        "eps": 1e-4,  # without it a gradient near 0 turns rounding into a whole step
        "torch_adam": True,  # its own beside Muon would be compiled
    }
    config = {
        "train_micro_batch_size_per_gpu": ROWS // world,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "optimizer": {"type": "Muon", "params": options},
        **zero(1),
    }
    model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
    modules = reference.layer_weights(model)
    for name, parameter in model.named_parameters():
        parameter.use_muon = name in modules  # type: ignore[attr-defined]
    groups: Any = list(model.parameters())
    if by_parameter:
        groups = [
            {"params": [p], "weight_decay": reference.WEIGHT_DECAY if p.dim() > 1 else 0.0}
            for p in groups
        ]
    return deepspeed.initialize(model=model, model_parameters=groups, config=config)[0]


def take(engine: Any, rank: int, world: int, step: int) -> None:
    share = reference.tokens(step, ROWS).reshape(world, -1, reference.LENGTH)[rank]
    engine.backward(engine(input_ids=share, labels=share).loss)
    engine.step()


def ours(rank: int) -> dict[str, Any]:
    engine = build_engine(2, by_parameter=False)
    decay = AlphaDecay(engine, interval=INTERVAL, drives="lr", lr_ramp=RAMP)
    ratios = []
    for step in range(1, STEPS + 1):
        ratios.append(dict(decay.rates.ratios))
        take(engine, rank, 2, step)
        decay.step()
    kind = type(engine.basic_optimizer).__name__
    return {"weights": gathered(engine), "ratios": ratios, "optimizer": kind}


def by_hand(rank: int) -> list[dict[str, Any]]:
    """With the rates of LLR, and with the scheduled ones."""
    return [trained_by_hand(driven) for driven in (True, False)]


def trained_by_hand(driven: bool) -> dict[str, Any]:
    engine = build_engine(1, by_parameter=True)
    model = engine.module
    names = [name for name, _ in model.named_parameters()]
    modules = reference.layer_weights(model)
    now = dict.fromkeys((*modules, *ENDS), 1.0)
    ratios = []
    for step in range(1, STEPS + 1):
        if step == 1 or step % INTERVAL == 0:
            start, first = dict(now), step
            target = targets(modules)
        share = min(1.0, (step - first + 1) / RAMP)
        now = {name: start[name] + share * (target[name] - start[name]) for name in now}
        ratios.append(now)
        for name, group in zip(names, engine.basic_optimizer.param_groups, strict=True):
            own = MUON_LR if group["use_muon"] else ADAM_LR
            group["lr"] = own * (now.get(name, 1.0) if driven else 1.0)
        take(engine, 0, 1, step)
    return {"weights": gathered(engine), "ratios": ratios}


def targets(modules: dict[str, Tensor]) -> dict[str, float]:
    """From once the scheduled rate, at the heaviest tail, to five times; so the ends."""
    alphas = {name: reference.alpha_by_svd(weight) for name, weight in modules.items()}
    least, most = min(alphas.values()), max(alphas.values())
    rates = {name: 1 + 4 * (alpha - least) / (most - least) for name, alpha in alphas.items()}
    return rates | dict.fromkeys(ENDS, 5.0)


def test_two_ranks_equal_one_with_a_group_for_each_parameter() -> None:
    ((wanted, undriven),) = run_ranks(1, by_hand)
    for found in run_ranks(2, ours):
        assert found["optimizer"] == "MuonWithAuxAdam"
        for own, expected in zip(found["ratios"], wanted["ratios"], strict=True):
            assert own == pytest.approx(expected, rel=2e-2)
        for name, weight in wanted["weights"].items():
            torch.testing.assert_close(
                found["weights"][name], weight, rtol=0, atol=TOLERANCE, msg=name
            )
    for name in wanted["ratios"][0]:  # the tolerance sees the rates
        assert float((undriven["weights"][name] - wanted["weights"][name]).abs().max()) > (
            5 * TOLERANCE
        ), name
