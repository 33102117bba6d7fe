"""AlphaDecay under Accelerate: python -m alphadecay.examples.accelerate, or with torchrun -m."""

from __future__ import annotations

from accelerate import Accelerator

from alphadecay import AdamW, AlphaDecay
from alphadecay.examples.setting import STEPS, Net, batch, show


def main() -> None:
    """Trains for a few seconds, two micro batches a step."""
    accelerator = Accelerator(gradient_accumulation_steps=2)
    model = Net()
    # 1. any torch optimizer will do, and several: AlphaDecay(model, [muon, adamw])
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    model, optimizer = accelerator.prepare(model, optimizer)
    # 2. what prepare() returns; every rank does this
    decay = AlphaDecay(model, optimizer, interval=20)
    accelerator.register_for_checkpointing(decay)
    for micro_step in range(2 * STEPS):
        with accelerator.accumulate(model):
            loss = model(**batch(micro_step, accelerator.device))["loss"]
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            decay.step()  # 3. does nothing between accumulation boundaries
    show(loss.item(), decay)
    accelerator.end_training()


if __name__ == "__main__":
    main()
