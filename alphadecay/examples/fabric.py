"""AlphaDecay under Lightning Fabric: python -m alphadecay.examples.fabric."""

from __future__ import annotations

from lightning.fabric import Fabric

from alphadecay import AdamW, AlphaDecay
from alphadecay.examples.setting import STEPS, Net, batch, show


def main() -> None:
    """Trains for a few seconds; add devices and a strategy (ddp, fsdp2) to Fabric as ever."""
    fabric = Fabric(accelerator="auto", devices=1)
    fabric.launch()
    model = Net()
    # 1. any torch optimizer will do
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
    # 2. what Fabric returns; every rank does this
    decay = AlphaDecay(wrapped, wrapped_optimizer, interval=20)
    for step in range(STEPS):
        loss = wrapped(**batch(step, fabric.device))["loss"]
        fabric.backward(loss)
        wrapped_optimizer.step()
        wrapped_optimizer.zero_grad()
        decay.step()  # 3. every rank, after every step
    show(loss.item(), decay)


if __name__ == "__main__":
    main()
