"""AlphaDecay on Muon and AdamW with a schedule of the decay, as nanochat trains:
python -m alphadecay.examples.two_optimizers.
"""

from __future__ import annotations

import torch

from alphadecay import AlphaDecay
from alphadecay.examples.setting import STEPS, Net, batch, show


def main() -> None:
    """Trains for a few seconds, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Net().to(device)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    biases = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    # 1. each optimizer has its own decay
    muon = torch.optim.Muon(matrices, lr=2e-2, weight_decay=0.1)
    adamw = torch.optim.AdamW(biases, lr=3e-3, weight_decay=0.0)
    # 2. one AlphaDecay over all of them
    decay = AlphaDecay(model, [muon, adamw], interval=20)
    for step in range(STEPS):
        for group in muon.param_groups:
            # 3. schedules write the base decay; each module's is its multiple of it
            group["weight_decay"] = 0.1 * (1.0 - step / STEPS)
        loss = model(**batch(step, device))["loss"]
        loss.backward()
        for optimizer in (muon, adamw):
            optimizer.step()
            optimizer.zero_grad()
        decay.step()
    show(loss.item(), decay)


if __name__ == "__main__":
    main()
