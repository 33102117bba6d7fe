"""The micro steps of an accumulation window, as the trainer takes them.

Run as a program it takes them on a GPU, where torch refuses every call that would wait for it:
`python -m tests.distributed.windows STAGE FILE`, FILE for the ranks to meet in.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tests.engines import loss_of_text
from train.config.command_line import load_config
from train.engines.deepspeed import DeepSpeedEngine, build_engine
from train.loop.stopping.guard import poison_nonfinite_loss

LENGTH = 12
MICRO_STEPS = 4
ARGUMENTS = (
    "--model.vocab_size=67",
    "--model.hidden_size=16",
    "--model.intermediate_size=24",
    "--model.num_layers=2",
    "--model.num_heads=2",
    f"--data.sequence_length={LENGTH}",
    "--model.fused_cross_entropy=chunked",
)


def build(stage: int, bf16: bool) -> DeepSpeedEngine:
    ds_config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": MICRO_STEPS,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "bf16": {"enabled": bf16},
        "zero_optimization": {"stage": stage, "overlap_comm": True},
    }
    return build_engine(load_config(list(ARGUMENTS)), ds_config)


def micro_step(engine: DeepSpeedEngine, batch: Tensor) -> None:
    """Do what the trainer does with a micro batch."""
    loss = loss_of_text(engine, batch) * 0.25
    engine.backward(poison_nonfinite_loss(loss))
    engine.step()


def let_deepspeed_wait(engine: DeepSpeedEngine) -> None:
    """Allow what ZeRO-3 does after a backward pass, where it waits for its stream of reductions."""
    wrapper = engine.handle.optimizer
    epilogue = getattr(wrapper, "independent_gradient_partition_epilogue", None)
    if epilogue is None:
        return

    def waiting() -> None:
        torch.cuda.set_sync_debug_mode("default")
        epilogue()
        torch.cuda.set_sync_debug_mode("error")

    wrapper.independent_gradient_partition_epilogue = waiting


def main(stage: int, meeting: str) -> None:
    """Take two windows and then one in which nothing may wait but ZeRO-3 for its own stream.

    Raises:
        RuntimeError: something did.
    """
    import deepspeed

    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", DS_ACCELERATOR="cuda")
    dist.init_process_group("nccl", init_method=f"file://{meeting}", rank=0, world_size=1)
    deepspeed.init_distributed(dist_backend="nccl", verbose=False)
    engine = build(stage, bf16=True)
    batch = torch.randint(67, (2, LENGTH), device="cuda")
    for _ in range(2 * MICRO_STEPS):  # the first compile, trace the weights and gather what stays
        micro_step(engine, batch)
    let_deepspeed_wait(engine)
    torch.cuda.set_sync_debug_mode("error")
    for _ in range(MICRO_STEPS - 1):
        micro_step(engine, batch)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
