"""What auto takes under the fsdp2 engine: rows alone, for as many shards as there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from train.config import TrainConfig
from train.config.command_line import load_config
from train.errors import UserError
from train.models import spec_of
from train.planning.auto import choose
from train.planning.device import GB, Device
from train.planning.model_shapes import model_without_weights
from train.planning.sizes import Size

GPU = Device("GPU", 17 * GB, cuda=True, bf16=True)


def config(model: str, shard: int) -> TrainConfig:
    """A recipe on FSDP2; fewer shards than ranks are HSDP."""
    recipe = ["--config", f"llama_{model}", "--model.fused_cross_entropy=true"]
    return load_config([*recipe, "--engine.kind=fsdp2", f"--engine.shard={shard}"])


@pytest.mark.parametrize(
    ("shard", "rows", "engine"),
    [(0, 32, "FSDP2"), (2, 16, "FSDP2 (HSDP, 2 ranks a copy)")],
)
def test_the_rows_fit_beside_the_shards(shard: int, rows: int, engine: str) -> None:
    c = config("350m", shard)
    choice = choose(c, 8, GPU)
    assert choice.size == Size(c.deepspeed.config, rows)
    assert choice.memory.title.startswith(f"{engine} on 8 ranks")
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


@pytest.mark.parametrize("reshard", [True, False])
def test_the_gathered_units_are_those_of_the_model(reshard: bool) -> None:
    """Two units at once, or all where they stay until the backward pass; in bf16."""
    c = config("350m", 0)
    c = replace(c, engine=replace(c.engine, reshard_after_forward=reshard))
    parts = {part.name: part.size for part in choose(c, 8, GPU).memory.training}
    model = model_without_weights(c.model, c.positions)
    spec = spec_of(c.model)
    units = [*spec.layers(model), *spec.ends(model)]
    sizes = sorted(sum(p.numel() for p in unit.parameters()) for unit in units)
    assert parts["gathered units"] == 2 * sum(sizes[-2:] if reshard else sizes)
    assert "gathered" not in parts


def test_the_buffers_that_are_left_out_are_those_of_the_engine() -> None:
    own = "\n".join(choose(config("60m", 0), 8, GPU).memory.lines())
    assert "\nFSDP2's all-gather and reduce-scatter buffers, the allocator's" in own
    assert "DeepSpeed" not in own and "ZeRO" not in own

    zero = load_config(["--config", "llama_60m", "--deepspeed.config=ds_configs/zero3.json"])
    lines = list(choose(zero, 8, GPU).memory.lines())
    assert lines[0].startswith("Memory per rank, ZeRO-3 on 8 ranks")
    assert any(line.startswith("  gathered   ") for line in lines)
    said = "\n".join(lines)
    assert "\nDeepSpeed's reduction buffers, the allocator's" in said and "FSDP2" not in said
