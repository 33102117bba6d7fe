"""Before its first step a run has the same float32 weights under every engine, bit for bit: what
differs later is the engine's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.distributed.engine_runs import ENGINES, Run, config_of
from tests.distributed.harness import run_ranks

PRECISIONS = ("float32", "bf16")
SHARDED = ("zero1", "zero3", "fsdp2")


def masters(rank: int) -> dict[tuple[str, str], dict[str, Tensor]]:
    """Whole float32 weights by engine and precision, as the optimizer is going to update them."""
    found = {}
    for precision in PRECISIONS:
        for engine in SHARDED:
            run = Run(config_of(*ENGINES[engine], f"--run.precision={precision}"))
            parameters = run.engine.module.named_parameters()
            found[engine, precision] = {name: whole_master(p) for name, p in parameters}
    return found


def whole_master(parameter: Any) -> Tensor:
    from deepspeed.utils import safe_get_full_fp32_param

    if hasattr(parameter, "full_tensor"):
        whole = parameter.full_tensor().detach()
    else:
        whole = safe_get_full_fp32_param(parameter)
    assert whole.dtype == torch.float32
    return whole.clone()


def test_every_engine_begins_with_the_same_bits() -> None:
    for found in run_ranks(2, masters):
        for precision in PRECISIONS:
            first = found["zero1", precision]
            assert len(first) == 21
            for engine in SHARDED:
                assert found[engine, precision].keys() == first.keys()
                for name, weight in found[engine, precision].items():
                    assert torch.equal(weight, first[name]), (engine, precision, name)
        # or the comparison in bf16 would say nothing more than that in float32
        rounded = found["zero1", "bf16"]
        assert any(not torch.equal(w, rounded[n]) for n, w in found["zero1", "float32"].items())
