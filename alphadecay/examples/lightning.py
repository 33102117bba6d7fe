"""AlphaDecay in Lightning's Trainer: python -m alphadecay.examples.lightning."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from alphadecay import AdamW
from alphadecay.examples.setting import STEPS, Net, batch, show
from alphadecay.integrations.lightning import AlphaDecayCallback  # 1.


class Module(LightningModule):
    """Trains the small model; several optimizers serve as well, under manual optimization."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, rows: dict[str, Tensor], _index: int) -> Tensor:
        """rows {"inputs": [ROWS, WIDTH], "labels": [ROWS]} -> mean cross-entropy."""
        self.loss = self.net(**rows)["loss"]
        return self.loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Any torch optimizer will do."""
        return AdamW(self.parameters(), lr=3e-3, weight_decay=0.1)


def main() -> None:
    """Trains for a few seconds; add devices and a strategy (ddp) as ever."""
    callback = AlphaDecayCallback(interval=20)  # 2. AlphaDecay's own options
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = Trainer(max_steps=STEPS, callbacks=[callback], **quiet)  # 3.
    module = Module()
    batches: Any = [batch(step) for step in range(STEPS)]
    trainer.fit(module, DataLoader(batches, batch_size=None))
    assert callback.decay is not None
    show(module.loss.item(), callback.decay)


if __name__ == "__main__":
    main()
