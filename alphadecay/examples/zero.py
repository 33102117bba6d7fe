"""AlphaDecay under DeepSpeed ZeRO-3: torchrun --standalone --nproc_per_node 2 -m
alphadecay.examples.zero.
"""

from __future__ import annotations

import deepspeed

from alphadecay import AdamW, AlphaDecay
from alphadecay.examples.setting import ROWS, STEPS, Net, batch, leave_ranks, show, start_ranks

CONFIG = {
    "train_micro_batch_size_per_gpu": ROWS,
    "gradient_clipping": 1.0,
    "steps_per_print": 10**9,
    "zero_optimization": {"stage": 3},
}


def main() -> None:
    """Trains for a few seconds; stages 0 to 3 differ in nothing but the number above."""
    device = start_ranks()
    # on CPUs: gloo serves, and needs no compiler
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    model = Net()
    # 1. or an optimizer named in CONFIG
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=CONFIG)
    # 2. the engine knows its optimizer; every rank does this
    decay = AlphaDecay(engine, interval=20)
    for step in range(STEPS):
        loss = engine(**batch(step, device))["loss"]
        engine.backward(loss)
        engine.step()
        decay.step()  # 3. does nothing between accumulation boundaries
    show(loss.item(), decay)


if __name__ == "__main__":
    main()
    leave_ranks()
