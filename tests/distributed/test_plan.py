"""A plan's owners, bytes and memory are those that real ranks count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import transformers
from torch import nn
from torch.distributed.tensor import DTensor

from alphadecay import AdamW, AlphaDecay
from alphadecay.inspect.plan.machines import CPU
from alphadecay.inspect.plan.memory import Memory, Spread
from alphadecay.inspect.plan.model import model_of_config
from alphadecay.inspect.plan.plan import fsdp, make_plan, replicated, step_of, zero
from tests.bench.counting import CountBytes
from tests.distributed.harness import init_deepspeed, run_ranks
from tests.distributed.wrapping import wrap

# Nothing divides by 4, and some rows by nothing.
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 101,
    "hidden_size": 36,
    "intermediate_size": 41,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Fused weights and stacks of experts.
GPT_OSS: dict[str, Any] = {
    **LLAMA,
    "model_type": "gpt_oss",
    "intermediate_size": 44,  # the experts' kernel wants rows of 16 bytes
    "num_local_experts": 3,
    "num_experts_per_tok": 1,
    "head_dim": 18,
}
SPREADS = {
    "ddp": replicated,
    "fsdp2": lambda ranks: fsdp(ranks, ranks),
    "hsdp": lambda ranks: fsdp(ranks // 2, ranks),
    "zero3": lambda ranks: zero(3, ranks, bf16=False),
    "zero3-bf16": lambda ranks: zero(3, ranks, bf16=True),
}
LENGTH = 6


class CountExchanges(CountBytes):
    """Counts the bytes of what brings matrices to their owners alone."""

    def _traffic(self, name: str, args: Any) -> tuple[float, float]:
        return super()._traffic(name, args) if name == "alltoall_base_" else (0.0, 0.0)


def build(values: dict[str, Any], kind: str) -> tuple[Any, nn.Module, AdamW]:
    """Return what is stepped, the model and the optimizer. Collective."""
    kept = {key: value for key, value in values.items() if key != "model_type"}
    config = transformers.AutoConfig.for_model(values["model_type"], **kept)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    if not kind.startswith("zero3"):
        wrapped = wrap(model, kind)
        return wrapped, wrapped, AdamW(wrapped.parameters(), lr=1e-3, weight_decay=0.1)
    import deepspeed

    init_deepspeed()
    ds_config = {
        "train_micro_batch_size_per_gpu": 1,
        "steps_per_print": 10**9,
        "bf16": {"enabled": kind.endswith("bf16")},
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
        "data_types": {"grad_accum_dtype": "fp32"},
    }
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=ds_config)
    return engine, engine.module, optimizer


def counted(rank: int, values: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return what a refresh and a step of one rank are. Collective."""
    engine, model, optimizer = build(values, kind)
    zero3 = kind.startswith("zero3")
    decay = AlphaDecay(engine) if zero3 else AlphaDecay(model, optimizer)
    sharding = decay._sharding
    with CountExchanges(sharding.shards, sharding.shard) as count:
        decay.refresh()
    tokens = torch.arange(LENGTH)[None]
    loss = engine(input_ids=tokens, labels=tokens).loss
    engine.backward(loss) if zero3 else loss.backward()
    gradients = nbytes(p.grad for p in model.parameters() if p.grad is not None)
    engine.step() if zero3 else optimizer.step()
    moments = [value for state in optimizer.state.values() for key, value in state.items()]
    held = nbytes(value for value in moments if torch.is_tensor(value) and value.dim())
    weights = nbytes(getattr(p, "ds_tensor", p) for p in model.parameters())
    if zero3:
        held += nbytes(engine.optimizer.fp32_partitioned_groups_flat)
        gradients = engine.optimizer.grad_partitions_flat_buffer.nbytes
    return {
        "owners": decay.plan.owners,
        "shapes": {name: module.shape for name, module in decay._modules.items()},
        "sent": count.sent,
        "received": count.received,
        "memory": Memory(weights, gradients, held),
    }


def nbytes(tensors: Iterable[Any]) -> int:
    return sum(t.to_local().nbytes if isinstance(t, DTensor) else t.nbytes for t in tensors)


def all_counted(rank: int, cases: list[tuple[dict[str, Any], str]]) -> list[dict[str, Any]]:
    """Count each case in turn. Collective."""
    found = []
    for values, kind in cases:
        found.append(counted(rank, values, kind))
        dist.barrier()
    return found


def planned(values: dict[str, Any], spread: Spread, ranks: int) -> Any:
    model = model_of_config("it", values, "it")
    return make_plan(model, ranks, spread, CPU, step_of(model, ranks, CPU, 500))


@pytest.mark.parametrize(
    ("ranks", "cases"),
    [
        (2, [(LLAMA, "zero3-bf16"), (GPT_OSS, "zero3"), (GPT_OSS, "fsdp2"), (LLAMA, "ddp")]),
        (4, [(LLAMA, "zero3"), (LLAMA, "fsdp2"), (LLAMA, "hsdp")]),
    ],
)
def test_owners_bytes_and_memory_are_those_of_a_run(ranks: int, cases: Any) -> None:
    results = run_ranks(ranks, all_counted, cases)
    for place, (values, kind) in enumerate(cases):
        found = [result[place] for result in results]
        plan = planned(values, SPREADS[kind](ranks), ranks)
        refresh = plan.refresh
        assert {m.name: m.owner for m in refresh.modules} == found[0]["owners"], kind
        assert {m.name: m.shape for m in refresh.modules} == found[0]["shapes"], kind
        assert [rank.sent for rank in refresh.ranks] == [one["sent"] for one in found], kind
        assert [rank.received for rank in refresh.ranks] == [one["received"] for one in found], kind
        assert sum(m.received for m in refresh.modules) == sum(r.sent for r in refresh.ranks)
        assert plan.memory == found[0]["memory"], kind
