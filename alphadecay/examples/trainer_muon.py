"""AlphaDecay on Muon and AdamW in the Hugging Face Trainer:
python -m alphadecay.examples.trainer_muon.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from alphadecay.examples.setting import ROWS, STEPS, Net, batch, show
from alphadecay.integrations.hf_transformers import AlphaDecayCallback, ChainedOptimizer  # 1.


class MuonTrainer(Trainer):
    """A Trainer whose matrices are Muon's."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """2. The Trainer takes one optimizer: chain them."""
        bare: Any = model or self.model
        parameters = list(bare.parameters())
        muon = torch.optim.Muon([p for p in parameters if p.ndim == 2], lr=2e-2, weight_decay=0.1)
        adamw = torch.optim.AdamW([p for p in parameters if p.ndim != 2], lr=3e-3)
        self.optimizer = ChainedOptimizer([muon, adamw])
        return self.optimizer


def main() -> None:
    """Trains for a few seconds."""
    rows = batch(0)
    data = [{name: column[i] for name, column in rows.items()} for i in range(ROWS)]
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        max_steps=STEPS,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    callback = AlphaDecayCallback(interval=20)
    trainer = MuonTrainer(Net(), arguments, train_dataset=data, callbacks=[callback])  # 3.
    result = trainer.train()
    assert callback.decay is not None
    show(result.training_loss, callback.decay)


if __name__ == "__main__":
    main()
