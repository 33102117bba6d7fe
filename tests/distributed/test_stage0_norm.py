"""DeepSpeed's stage 0 in float32 says its gradients' norm as other stages do, clipped or not."""

from __future__ import annotations

import pytest
import torch

from alphadecay import AdamW, AlphaDecay
from tests.distributed import reference
from tests.distributed.harness import init_deepspeed, run_ranks
from train.models.build import build_model

RANKS = 2
ROWS = 4
STEPS = 3


def norms_rank(rank: int, clip: float) -> tuple[list[float], list[float]]:
    """What the engine says after each step, and the norm of the gradients that all ranks share, in
    float64.
    """
    import deepspeed

    init_deepspeed()
    config = {
        "train_micro_batch_size_per_gpu": ROWS // RANKS,
        "gradient_clipping": clip,
        "steps_per_print": 10**9,
    }
    model = build_model(reference.TINY, reference.LENGTH, seed=7)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=AdamW(model.parameters(), lr=1e-3, weight_decay=0.1), config=config
    )
    AlphaDecay(engine, interval=100)
    said = []
    true = []
    for step in range(STEPS):
        share = reference.tokens(step, ROWS).reshape(RANKS, -1, reference.LENGTH)[rank]
        engine.backward(engine(input_ids=share, labels=share).loss)
        true.append(float(torch.cat([p.grad.double().view(-1) for p in model.parameters()]).norm()))
        engine.step()
        said.append(float(engine.get_global_grad_norm()))
    return said, true


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_the_norm_is_said_before_clipping(clip: float) -> None:
    (said, true), (said_there, _) = run_ranks(RANKS, norms_rank, clip)
    assert said == said_there
    assert said == pytest.approx(true, rel=1e-5)
    assert min(true) > 0.05  # so that the clip bites
