"""AlphaDecay in the Hugging Face Trainer: python -m alphadecay.examples.trainer, or the same with
torchrun.
"""

from __future__ import annotations

import tempfile

import torch
from torch import distributed as dist
from transformers import Trainer, TrainingArguments

from alphadecay.examples.setting import ROWS, STEPS, Net, batch, leave_ranks, show
from alphadecay.integrations import AlphaDecayCallback  # 1.


def main() -> None:
    """Trains for a few seconds; add `fsdp` or `deepspeed` to the arguments as ever."""
    rows = batch(0)
    data = [{name: column[i] for name, column in rows.items()} for i in range(ROWS)]
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        max_steps=STEPS,
        per_device_train_batch_size=ROWS // 4,
        learning_rate=3e-3,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_steps=20,
        use_cpu=not torch.cuda.is_available(),
        weight_decay=0.1,  # 2. the base decay: the Trainer's own default is 0
    )
    callback = AlphaDecayCallback(interval=20)
    result = Trainer(Net(), arguments, train_dataset=data, callbacks=[callback]).train()  # 3.
    assert callback.decay is not None
    show(result.training_loss, callback.decay)


if __name__ == "__main__":
    main()
    if dist.is_initialized():
        leave_ranks()
