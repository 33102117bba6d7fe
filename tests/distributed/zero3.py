"""The tiny LLaMA under DeepSpeed with AlphaDecay, and its steps on the oracle's batches."""

from __future__ import annotations

from typing import Any

from alphadecay import AlphaDecay
from tests.distributed import reference
from tests.distributed.harness import init_deepspeed
from train.models.build import build_model

ROWS = 12
STEPS = 9
INTERVAL = 4
CLIP = 0.5


def ds_config(world_size: int, micro: int, clip: float = CLIP, **zero: Any) -> dict[str, Any]:
    return {
        "train_batch_size": ROWS,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": ROWS // (micro * world_size),
        "gradient_clipping": clip,
        "steps_per_print": 10**9,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 50, **zero},
    }


def build(
    kind: type, config: dict[str, Any], interval: int = INTERVAL, spread: int = 0
) -> tuple[Any, AlphaDecay]:
    import deepspeed

    init_deepspeed()
    model = build_model(reference.TINY, reference.LENGTH, seed=7, ds_config=config)
    optimizer = kind(
        model.parameters(),
        lr=reference.LR,
        betas=(0.9, 0.95),
        eps=1e-8,
        weight_decay=reference.WEIGHT_DECAY,
    )
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine, AlphaDecay(
        engine, interval=interval, spread=spread, s1=reference.S1, s2=reference.S2
    )


def one_step(
    engine: Any, decay: AlphaDecay, step: int, rank: int, world_size: int, micro: int
) -> int:
    """One global batch; returns how many of its micro batches made AlphaDecay refresh."""
    shares = reference.tokens(step, ROWS).reshape(-1, world_size, micro, reference.LENGTH)[:, rank]
    refreshes = 0
    for share in shares:
        engine.backward(engine(input_ids=share, labels=share).loss)
        engine.step()
        refreshes += decay.step()
    return refreshes


# float32 throughout. The two runs add the gradients in another order (ranks, micro batches), a
# relative 1e-7 that Adam's division by sqrt(v) amplifies where a gradient is near 0: no weight may
# move by more than 2 % of one learning-rate step.
TOLERANCE = 0.02 * reference.LR
