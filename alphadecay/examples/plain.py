"""AlphaDecay in a plain PyTorch loop: python -m alphadecay.examples.plain."""

from __future__ import annotations

import torch

from alphadecay import AdamW, AlphaDecay
from alphadecay.examples.setting import STEPS, Net, batch, show


def main() -> None:
    """Trains for a few seconds, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Net().to(device)
    # 1. any torch optimizer will do
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    # 2. from now on every weight matrix has its own decay
    decay = AlphaDecay(model, optimizer, interval=20)
    for step in range(STEPS):
        loss = model(**batch(step, device))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()  # 3. measures the weights again where the interval says so
    show(loss.item(), decay)


if __name__ == "__main__":
    main()
