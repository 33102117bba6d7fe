"""What is recognised, and what is refused with the way out."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from alphadecay.modules import named_parameters
from alphadecay.sharding.detect import detect

STOCK = object()


def engine(optimizer: Any = STOCK, **offload: Any) -> Any:
    settings = SimpleNamespace(
        device=offload.pop("device", "cpu"),
        ratio=offload.pop("ratio", 1.0),
        super_offload=offload.pop("super_offload", False),
    )
    return SimpleNamespace(
        module=nn.Linear(2, 2),
        optimizer=optimizer,
        zero_optimization_stage=lambda: 3,
        zero_offload_optimizer=lambda: settings,
        zero_offload_param=lambda: None,
        zenflow=offload.pop("zenflow", False),
        autotp_size=lambda: offload.get("autotp", 0),
        mpu=SimpleNamespace(get_model_parallel_world_size=lambda: offload.get("mpu", 1)),
        num_stages=offload.get("stages", 1),
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"zenflow": True}, "ZenFlow.*take zenflow out"),
        ({"super_offload": True}, "SuperOffload.*super_offload to false"),
        ({"ratio": 0.5}, "ratio 0.5.*set ratio to 1"),
        ({"device": "nvme"}, 'NVMe.*"cpu"'),
        ({"autotp": 2}, "tensor parallelism.*autotp_size to 1"),
        ({"mpu": 2}, "tensor parallelism.*model-parallel size of an mpu"),
        ({"stages": 2}, "pipeline parallelism.*one pipeline stage"),
    ],
)
def test_refused_with_the_way_out(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detect(engine(**setting))


def test_an_engine_without_an_optimizer_and_a_stranger_are_refused() -> None:
    with pytest.raises(ValueError, match="has no optimizer"):
        detect(engine(optimizer=None))
    with pytest.raises(TypeError, match="got dict"):
        detect({})


def test_a_module_is_its_own_target() -> None:
    model = nn.Linear(2, 2)
    assert (
        detect(nn.DataParallel(model)).model
        is detect(torch.compile(nn.DataParallel(model))).model
        is model
    )
    target = detect(model)
    assert target.model is model
    assert (target.sharding.world_size, target.engine) == (1, None)
    assert detect(engine()).sharding.world_size == 1


def test_compiled_and_wrapped_in_any_order(tmp_path: Path) -> None:
    """torch.compile's wrapper hides DDP's, and with it the group."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = nn.Linear(2, 2)
        wrapped = [
            torch.compile(DistributedDataParallel(model)),
            DistributedDataParallel(torch.compile(model)),
        ]
        assert all(detect(each).sharding.group is dist.group.WORLD for each in wrapped)
        assert all(
            list(named_parameters(detect(each).model)) == ["weight", "bias"] for each in wrapped
        )
    finally:
        dist.destroy_process_group()
