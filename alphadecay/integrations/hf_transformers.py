"""AlphaDecay inside transformers.Trainer: Trainer(...,
callbacks=[AlphaDecayCallback(interval=500)]).

One process, DDP, FSDP2 (`fsdp`) and DeepSpeed (`deepspeed`), as the Trainer's own arguments say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from alphadecay.controller import AlphaDecay
from alphadecay.integrations.callback import check_options, summary, takes_the_options


@takes_the_options
class AlphaDecayCallback(TrainerCallback, ExportableState):
    """Gives every linear weight its own decay, from s1 to s2 times
    `TrainingArguments.weight_decay`.

    Works with the Trainer's own optimizer, with one named in the DeepSpeed configuration, and with
    alphadecay's, given as `optimizers=(AdamW(...), None)` or, where FSDP must make it,
    `optimizer_cls_and_kwargs=(AdamW, {...})`. At each refresh it logs the range of alphas and
    decays. Its state lies in each checkpoint's trainer_state.json, the same for any world size, and
    is taken up by `resume_from_checkpoint`.

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
        self._arguments = options

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the decay over, once the model is wrapped and a checkpoint loaded. Collective."""
        self._trainer = _running_trainer()
        if self.decay is not None:
            self.decay.remove()  # train() is called again
        self.decay = AlphaDecay(self._trainer.model_wrapped, kwargs["optimizer"], **self._arguments)
        if state.global_step == 0:
            self._log()
            return
        stored: Any = state.stateful_callbacks
        saved = stored.get(type(self).__name__, {}).get("attributes", {}).get("saved")
        # A checkpoint from before AlphaDecay: refreshes fall on the same steps as if it had been
        # there.
        self.decay.load_state_dict(saved or {**self.decay.state_dict(), "step": state.global_step})

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After each optimizer step, gradients gone. Collective where the decays are refreshed."""
        assert self.decay is not None
        if self.decay.step():
            self._log()
        self._finish_before_save(control.should_save)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The Trainer may save next."""
        self._finish_before_save(control.should_save)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The Trainer may save next, if the metric is the best yet."""
        self._finish_before_save(control.should_save or args.save_strategy == "best")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Give the optimizer back; `decay` keeps its figures."""
        if self.decay is not None:
            self.decay.remove()

    def state(self) -> dict[str, Any]:
        """What goes into trainer_state.json. Asked of one rank only."""
        if self.decay is not None and self.decay.solving:
            raise RuntimeError(
                "this save comes unannounced amid a spread refresh: put AlphaDecayCallback after "
                "what asks for it"
            )
        return {
            "args": self._arguments,
            "attributes": {"saved": None if self.decay is None else self.decay.state_dict()},
        }

    def _finish_before_save(self, saving: bool) -> None:
        """Solves a spread refresh early, for state() may not wait for other ranks.

        Collective where there is one.
        """
        if saving and self.decay is not None and self.decay.solving:
            self.decay.state_dict()

    def _log(self) -> None:
        assert self.decay is not None
        self._trainer.log(summary(self.decay))


class ChainedOptimizer(torch.optim.Optimizer):
    """Several optimizers behind the one that the Trainer, its schedule and its checkpoints know.

    For Muon beside AdamW: return one of it from `Trainer.create_optimizer`, or from a factory in
    `optimizer_cls_and_kwargs`. AlphaDecay decays each of the optimizers.

    Args:
        optimizers: what steps the weights, each weight in one of them.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        # without Optimizer.__init__, which would keep copies of groups that loading replaces
        self.optimizers = list(optimizers)
        self.defaults: dict[str, Any] = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of all optimizers, which schedules write to."""
        return [group for each in self.optimizers for group in each.param_groups]

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        """The state of all weights."""
        return {key: state for each in self.optimizers for key, state in each.state.items()}

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Step all optimizers, in order; the closure is evaluated by the first."""
        loss = self.optimizers[0].step(closure)  # type: ignore[arg-type, func-returns-value]
        for optimizer in self.optimizers[1:]:
            optimizer.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all optimizers, in order."""
        return {"optimizers": [each.state_dict() for each in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the saved states."""
        for each, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            each.load_state_dict(state)


def _running_trainer() -> Trainer:
    """The Trainer whose train() has called this callback.

    Callbacks are handed the bare model, but AlphaDecay needs what was made of it: DeepSpeed's
        engine or DDP's process group.
    """
    frame = sys._getframe(1)
    while frame is not None:
        candidate = frame.f_locals.get("self")
        if isinstance(candidate, Trainer):
            return candidate
        frame = frame.f_back  # type: ignore[assignment]
    raise RuntimeError(
        "AlphaDecayCallback found no transformers.Trainer: pass it to one with callbacks=[...]"
    )
