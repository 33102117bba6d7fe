"""AlphaDecay in Lightning's Trainer: callbacks=[AlphaDecayCallback(interval=500)].

Both packages serve, `lightning` and `pytorch_lightning`: the callback is of the one that is loaded.
Lightning Fabric needs nothing of this: AlphaDecay(model, optimizer) takes what `setup` returns.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from alphadecay.controller import AlphaDecay
from alphadecay.integrations.callback import check_options, summary, takes_the_options

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
elif "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback
else:
    from lightning.pytorch import Callback


@takes_the_options
class AlphaDecayCallback(Callback):
    """Gives every linear weight its own decay, from s1 to s2 times its optimizer's weight_decay.

    It takes over all optimizers that `configure_optimizers` returns, under automatic and under
    manual optimization. At each refresh the loggers get the range of alphas and decays. Its state
    lies in each checkpoint, the same for any world size, and `fit(ckpt_path=...)` takes it up.
    When training ends the optimizers are given back as they were.

    Args:
        options: those of AlphaDecay: interval, s1, s2, include, exclude, splits, tail, method, ...

    Attributes:
        decay: the AlphaDecay at work, once training has begun; None before.

    Raises:
        TypeError: an option that AlphaDecay does not have.
        ValueError: a choice that cannot work; the message says what to do.
    """

    decay: AlphaDecay | None = None

    def __init__(self, **options: Any) -> None:
        check_options(options)
        self._options = options
        self._saved: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the decay over, once the model is wrapped and a checkpoint loaded. Collective."""
        saved = self._saved
        self._saved = {}
        if self.decay is not None:  # fit() is called again
            saved = saved or self.decay.state_dict()
            self.decay.remove()
        self.decay = AlphaDecay(trainer.strategy.model, trainer.optimizers, **self._options)
        if trainer.global_step:
            # A checkpoint from before AlphaDecay: refreshes fall on the same steps as if it had
            # been there. Lightning counts the steps of all optimizers together.
            step = trainer.global_step // len(trainer.optimizers)
            self.decay.load_state_dict(saved or {**self.decay.state_dict(), "step": step})
        else:
            self._log(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Refresh where it is due; a no-op between accumulation boundaries. Collective."""
        assert self.decay is not None
        if self.decay.step():
            self._log(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the optimizers back; `decay` keeps its figures."""
        self._remove()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the optimizers back, for a notebook goes on after an interrupt."""
        self._remove()

    def state_dict(self) -> dict[str, Any]:
        """Return what goes into the checkpoint. Lightning asks every rank."""
        return self._saved if self.decay is None else self.decay.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what a checkpoint holds until training starts."""
        self._saved = state_dict

    def _remove(self) -> None:
        if self.decay is not None:
            self.decay.remove()

    def _log(self, trainer: Trainer) -> None:
        assert self.decay is not None
        for logger in trainer.loggers:
            logger.log_metrics(summary(self.decay), step=trainer.global_step)
