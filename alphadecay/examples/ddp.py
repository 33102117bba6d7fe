"""AlphaDecay under DistributedDataParallel: torchrun --standalone --nproc_per_node 2 -m
alphadecay.examples.ddp.
"""

from __future__ import annotations

from torch.nn.parallel import DistributedDataParallel

from alphadecay import AdamW, AlphaDecay
from alphadecay.examples.setting import STEPS, Net, batch, leave_ranks, show, start_ranks


def main() -> None:
    """Trains for a few seconds; every rank measures its share of the weights."""
    device = start_ranks()
    model = DistributedDataParallel(Net().to(device))
    # 1. any torch optimizer will do
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    # 2. wrap the model first; every rank does this
    decay = AlphaDecay(model, optimizer, interval=20)
    for step in range(STEPS):
        loss = model(**batch(step, device))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()  # 3. every rank, after every step
    show(loss.item(), decay)


if __name__ == "__main__":
    main()
    leave_ranks()
