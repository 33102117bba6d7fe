"""What auto takes under the fsdp2 engine: rows alone, for as many shards as there are."""

from __future__ import annotations

import pytest

from train.config import TrainConfig
from train.config.command_line import load_config
from train.errors import UserError
from train.planning.auto import choose
from train.planning.device import GB, Device
from train.planning.sizes import Size

GPU = Device("GPU", 17 * GB, cuda=True, bf16=True)


def config(model: str, shard: int) -> TrainConfig:
    """A recipe on FSDP2; fewer shards than ranks are HSDP."""
    recipe = ["--config", f"llama_{model}", "--model.fused_cross_entropy=true"]
    return load_config([*recipe, "--engine.kind=fsdp2", f"--engine.shard={shard}"])


@pytest.mark.parametrize(("shard", "rows"), [(0, 32), (2, 16)])
def test_the_rows_fit_beside_the_shards(shard: int, rows: int) -> None:
    c = config("350m", shard)
    choice = choose(c, 8, GPU)
    assert choice.size == Size(c.deepspeed.config, rows)
    assert choice.memory.title.startswith("FSDP2 on 8 ranks")
    assert choice.line.startswith(f"auto takes a micro batch of {rows}: about ")

    less = choose(c, 8, GPU, failures=1)
    assert less.size.micro_batch == rows // 2
    assert less.line.endswith(f"; a micro batch of {rows} ran out of memory")


def test_a_run_that_goes_on_keeps_its_rows_where_it_can() -> None:
    c = config("350m", 2)
    began = choose(c, 8, GPU).size
    kept = choose(c, 8, GPU, began)
    assert kept.size == began and kept.line.endswith("; as the run began")
    other = choose(c, 64, GPU, began)  # eight rows a rank
    assert "the run began with a micro batch of 16, which cannot be kept" in other.line


def test_fewer_rows_are_not_tried_where_they_take_more() -> None:
    """In one micro batch gradients are reduced at once; between two they stay whole."""
    assert choose(config("1b", 0), 8, GPU).size.micro_batch == 64
    with pytest.raises(
        UserError, match=r"a micro batch of 64 ran out.*nothing smaller; try --model"
    ):
        choose(config("1b", 0), 8, GPU, failures=1)


def test_copies_that_do_not_fit_are_told_of_more_shards() -> None:
    with pytest.raises(UserError, match="the least, a micro batch of 64, takes about") as caught:
        choose(config("1b", 1), 8, GPU)
    said = str(caught.value)
    assert "try a larger --engine.shard, --model.activation" in said
    assert said.endswith(", or give --run.micro_batch yourself")
    with pytest.raises(
        UserError, match=r"a micro batch of 1 ran out.*; try a larger --engine.shard"
    ):
        choose(config("350m", 2), 8, GPU, failures=30)
