"""Every way of sharding against an unsharded run, on this device: weights and decays at the end.

The oracle is stock torch AdamW with a param group per module and decays by float64 SVD. In bf16 it
keeps float32 masters and computes on their bf16 values, as DeepSpeed does, but rounds sums of
gradients elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay import AdamW, AlphaDecay
from tests.distributed.reference import (
    S1,
    S2,
    WEIGHT_DECAY,
    layer_weights,
    linear_decays,
)
from tests.gpu.cases import Case, Figures, Session
from tests.gpu.engines import release
from train.config import ModelConfig
from train.engines.deepspeed_workarounds import without_memory_reports
from train.models.build import build_model

# Odd shapes, so that ranks' shares are uneven.
MODEL = ModelConfig(
    vocab_size=200,
    hidden_size=128,
    intermediate_size=263,
    num_layers=2,
    num_heads=4,
    compile=False,
    fused_cross_entropy=False,
)
KERNELS = replace(MODEL, compile="auto", fused_cross_entropy="auto")  # as a run has them
ROWS = 4
LENGTH = 32
STEPS = 12
INTERVAL = 4
SPREAD = 2
LR = {"float32": 1e-2, "bf16": 1e-3}
EPS = 1e-4  # without it a gradient near 0 turns another order of sums into a whole step
# float32: kernels add in another order. bf16: the oracle rounds elsewhere. Decays lie between 0.67
# and 5 in units of the base, as their distance is told.
WEIGHTS = {"float32": 2e-4, "bf16": 3e-2}
DECAYS = {"float32": 5e-4, "bf16": 5e-2}


@dataclass(frozen=True)
class Way:
    """A way of sharding.

    Args:
        kind: plain, ddp, fsdp2 or zero.
        zero: DeepSpeed's section zero_optimization.
        precision: float32 or bf16.
        fused: torch's fused kernel.
        spread: the refresh is spread over steps.
        model: what is computed, by which kernels.
    """

    kind: str
    zero: dict[str, Any] = field(default_factory=dict)
    precision: str = "float32"
    fused: bool = False
    spread: bool = False
    model: ModelConfig = MODEL


_OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
_ALL_SHARDED = {"stage": 3, "stage3_param_persistence_threshold": 0}
WAYS = {
    "plain": Way("plain"),
    "plain, fused": Way("plain", fused=True),
    "plain, spread": Way("plain", spread=True),
    "DDP": Way("ddp"),
    "FSDP2": Way("fsdp2"),
    "FSDP2, fused, spread": Way("fsdp2", fused=True, spread=True),
    "ZeRO-0": Way("zero", {"stage": 0}),
    "ZeRO-1": Way("zero", {"stage": 1}),
    "ZeRO-2": Way("zero", {"stage": 2}),
    "ZeRO-3": Way("zero", _ALL_SHARDED),
    "ZeRO-3, spread": Way("zero", _ALL_SHARDED, spread=True),
    "ZeRO-2, offload": Way("zero", {"stage": 2} | _OFFLOAD),
    "ZeRO-3, offload": Way("zero", _ALL_SHARDED | _OFFLOAD),
    "plain, a run's kernels": Way("plain", fused=True, model=KERNELS),
    "ZeRO-1, bf16, a run's kernels": Way("zero", {"stage": 1}, "bf16", fused=True, model=KERNELS),
    "ZeRO-1, bf16, fused": Way("zero", {"stage": 1}, "bf16", fused=True),
    "ZeRO-3, bf16, fused": Way("zero", _ALL_SHARDED, "bf16", fused=True),
}


def cases() -> Iterator[Case]:
    """Yield a case for each way."""
    for name, way in WAYS.items():
        seconds = 8.0 if way.model is KERNELS else 1.5  # they are compiled
        yield Case("equality", name, seconds, lambda session, way=way: compare(way, session))


def compare(way: Way, session: Session) -> Figures:
    """Return how far weights and decays of a way are from the oracle's."""
    found, decays, last = _sharded(way, session)
    expected, expected_decays = _oracle(way, session)
    weights = max(
        float((found[name].float() - weight).norm() / weight.norm())
        for name, weight in expected.items()
    )
    difference = max(
        abs(decays[name] - decay) / WEIGHT_DECAY for name, decay in expected_decays.items()
    )
    close = weights <= WEIGHTS[way.precision] and difference <= DECAYS[way.precision]
    later = SPREAD if way.spread else 0
    due = (STEPS - later) // INTERVAL * INTERVAL + later
    return {
        "weights": weights,
        "decays": difference,
        "last_refresh": last,
        "ok": close and last == due,
    }


def _batches(session: Session) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (STEPS, ROWS, LENGTH)
    return torch.randint(0, MODEL.vocab_size, shape, generator=generator).to(session.device)


def _sharded(way: Way, session: Session) -> tuple[dict[str, Tensor], dict[str, float], int]:
    """Train a way; return its whole weights, its decays and the step of its last refresh."""
    options = {"interval": INTERVAL, "s1": S1, "s2": S2, "spread": SPREAD if way.spread else 0}
    if way.kind == "zero":
        return _under_deepspeed(way, session, options)
    model = build_model(way.model, LENGTH, seed=11).to(session.device)
    net = _wrapped(way.kind, model)
    optimizer = AdamW(
        net.parameters(),
        lr=LR[way.precision],
        eps=EPS,
        weight_decay=WEIGHT_DECAY,
        fused=way.fused or None,
    )
    decay = AlphaDecay(net, optimizer, **options)
    for batch in _batches(session):
        net(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    whole = {name: _whole(parameter) for name, parameter in model.named_parameters()}
    return whole, decay.weight_decays, decay.last_refresh_step


def _wrapped(kind: str, model: Any) -> nn.Module:
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    if kind == "fsdp2":
        from torch.distributed.fsdp import fully_shard

        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
    return model  # type: ignore[no-any-return]


def _whole(parameter: Any) -> Tensor:
    whole: Tensor = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
    return whole.detach()


def _under_deepspeed(
    way: Way, session: Session, options: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, float], int]:
    from deepspeed.utils import safe_get_full_fp32_param

    with _engine(way) as engine:
        decay = AlphaDecay(engine, **options)
        for batch in _batches(session):
            engine.backward(engine(input_ids=batch, labels=batch).loss)
            engine.step()
            decay.step()
        masters = way.zero["stage"] > 0 or way.precision == "bf16"
        weights = {
            name: (safe_get_full_fp32_param(parameter) if masters else parameter.detach())
            .to(session.device)
            .clone()
            for name, parameter in engine.module.named_parameters()
        }
        return weights, decay.weight_decays, decay.last_refresh_step


@contextmanager
def _engine(way: Way) -> Iterator[Any]:
    import deepspeed

    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": ROWS,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "zero_optimization": dict(way.zero),
        "zero_force_ds_cpu_optimizer": False,
    }
    if way.precision == "bf16":
        config |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    model = build_model(way.model, LENGTH, seed=11)
    optimizer = AdamW(
        model.parameters(),
        lr=LR[way.precision],
        eps=EPS,
        weight_decay=WEIGHT_DECAY,
        fused=way.fused or None,
    )
    with without_memory_reports():
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    try:
        yield engine
    finally:
        release(engine)


def _oracle(way: Way, session: Session) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Train unsharded; return the weights and the decays at the end."""
    masters = build_model(MODEL, LENGTH, seed=11).to(session.device)
    named = dict(masters.named_parameters())
    groups = [
        {"params": [p], "name": name, "weight_decay": 0.0 if p.dim() < 2 else WEIGHT_DECAY}
        for name, p in named.items()
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR[way.precision], eps=EPS, fused=way.fused or None)
    modules = layer_weights(masters)
    decays = linear_decays(modules)
    due = {1: decays}  # step -> decays that it runs on
    for step, batch in enumerate(_batches(session), 1):
        if step % INTERVAL == 0:
            due[step + (SPREAD if way.spread else 0)] = linear_decays(modules)
        decays = due.get(step, decays)
        for group in optimizer.param_groups:
            group["weight_decay"] = decays.get(group["name"], group["weight_decay"])
        _gradients(masters, batch, way.precision)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in named.items()}, decays


def _gradients(masters: nn.Module, batch: Tensor, precision: str) -> None:
    """Fill in the gradients of a batch; in bf16 those of the rounded weights."""
    masters.zero_grad()
    if precision == "float32":
        masters(input_ids=batch, labels=batch).loss.backward()
        return
    rounded: Any = build_model(MODEL, LENGTH, seed=11).to(batch.device)
    rounded.load_state_dict(masters.state_dict())
    frequencies = [
        (module, module.inv_freq) for module in rounded.modules() if hasattr(module, "inv_freq")
    ]
    rounded.to(torch.bfloat16)
    for module, inv_freq in frequencies:
        module.inv_freq = inv_freq
    rounded(input_ids=batch, labels=batch).loss.backward()
    for master, low in zip(masters.parameters(), rounded.parameters(), strict=True):
        master.grad = low.grad.float()
