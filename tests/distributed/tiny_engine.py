"""A tiny LLaMA on the program's DeepSpeed engine, and a few steps of it.

Refreshes and evaluations lie between the steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from alphadecay import AlphaDecay
from tests.engines import loss_of_text
from train.engines.deepspeed import DeepSpeedEngine
from train.models.chunked_loss import IGNORED

LENGTH = 12
LAYERS = 3
VOCABULARY = 67
ARGUMENTS = (
    f"--model.vocab_size={VOCABULARY}",
    "--model.hidden_size=16",
    "--model.intermediate_size=24",
    f"--model.num_layers={LAYERS}",
    "--model.num_heads=2",
    f"--data.sequence_length={LENGTH}",
    "--optim.lr=0.01",
)


def ds_config(stage: int = 3, bf16: bool = False, **zero: Any) -> dict[str, Any]:
    """Two micro batches a step; under ZeRO-3 norm gains persist, every matrix is partitioned."""
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "bf16": {"enabled": bf16},
        "zero_optimization": {"stage": stage, **zero},
    }
    if stage == 3:
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 32
    return config


def tokens(rank: int, index: int) -> Tensor:
    """Return a micro batch of a rank."""
    generator = torch.Generator().manual_seed(100 * index + rank)
    return torch.randint(VOCABULARY, (2, LENGTH), generator=generator)


def losses_of(engine: DeepSpeedEngine, rank: int, steps: int) -> list[float]:
    """Return the losses of micro batches, and two figures of evaluations. Collective."""
    decay = AlphaDecay(engine.handle, interval=2)
    losses = []
    for index in range(2 * steps):
        if index in (0, 4):
            with torch.no_grad(), engine.evaluating() as logits_of:
                losses.append(
                    float(logits_of({"input_ids": tokens(rank, 0)}).float().logsumexp(-1).mean())
                )
        batch = tokens(rank, index)
        labels = batch.masked_fill(batch % 5 == index % 5, IGNORED)
        loss = loss_of_text(engine, batch, labels)
        engine.backward(loss)
        engine.step()
        decay.step()
        losses.append(float(loss.detach()))
    return losses
