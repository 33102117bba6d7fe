"""AlphaDecay under FSDP2: torchrun --standalone --nproc_per_node 2 -m alphadecay.examples.fsdp2."""

from __future__ import annotations

from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from alphadecay import AdamW, AlphaDecay
from alphadecay.examples.setting import STEPS, Net, batch, leave_ranks, show, start_ranks


def main() -> None:
    """Train for a few seconds; each weight is sent whole to one rank and measured there."""
    device = start_ranks()
    model = Net().to(device)
    fully_shard(model, mesh=init_device_mesh(device.type, (dist.get_world_size(),)))
    # 1. any torch optimizer will do
    optimizer = AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    decay = AlphaDecay(model, optimizer, interval=20)  # 2. fully_shard first; every rank does this
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
