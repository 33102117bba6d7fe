"""AlphaDecayCallback in transformers' Trainer with every optimizer, Muon beside AdamW included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alphadecay import AdamW, AlphaDecay
from tests.distributed.harness import run_ranks
from tests.integrations import loops

pytestmark = pytest.mark.integrations
transformers: Any = pytest.importorskip("transformers", reason="made by make integrations")
from alphadecay.integrations.hf_transformers import (  # noqa: E402
    AlphaDecayCallback,
    ChainedOptimizer,
)

STEPS = 12
SAVE = 6
INTERVAL = 4
ROWS = 4
# how the Trainer comes to its optimizer
WAYS = {
    "default": "stock",
    "cls_and_kwargs": "ours",
    "optimizers": "ours",
    "create_optimizer": "muon",
    "factory": "muon",
}


class Model(nn.Module):
    """The small language model as the Trainer wants it."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.net = loops.Net()
        self.scale = scale

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """input_ids, labels [rows, length] -> {"loss": cross-entropy times `scale`}."""
        return {"loss": loops.loss_of(self.net(input_ids), labels) * self.scale}


class OwnOptimizer(transformers.Trainer):
    """A Trainer that makes Muon and AdamW."""

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self.optimizer = ChainedOptimizer(loops.muon(self.model if model is None else model))
        return self.optimizer


class MuonAndAdamW:
    """A factory, as `optimizer_cls_and_kwargs` takes since transformers 5."""

    def __call__(self, model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
        return ChainedOptimizer(loops.muon(model))


class InOrder(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The tokens of all steps."""

    def __init__(self, steps: int) -> None:
        self.rows = torch.cat([loops.tokens(step, ROWS) for step in range(steps)])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


class Watch(transformers.TrainerCallback):
    """Compares every weight with what the steps on zero gradients owe it."""

    def __init__(self, callback: AlphaDecayCallback, kind: str, zero: bool) -> None:
        self.callback = callback
        self.kind = kind
        self.zero = zero
        self.checked = 0
        self.refreshed: list[int] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.callback.decay is not None
        loops.assert_three_decays(self.callback.decay, self.kind)
        self.before = loops.snapshot(kwargs["model"])
        self.factors = loops.expected_factors(self.callback.decay, self.before, self.kind)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.callback.decay is not None
        if self.callback.decay.last_refresh_step not in self.refreshed:
            self.refreshed.append(self.callback.decay.last_refresh_step)
        if self.zero:
            error, name = loops.worst(self.before, loops.snapshot(kwargs["model"]), self.factors)
            assert error <= loops.TOLERANCE, (name, error)
            self.checked += 1


def trainer_of(
    folder: str, way: str, *, steps: int, zero: bool = False, world: int = 1, interval: int = 2
) -> tuple[Any, AlphaDecayCallback, Watch]:
    arguments = transformers.TrainingArguments(
        folder,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        per_device_train_batch_size=ROWS // world,
        max_steps=steps,
        save_steps=SAVE,
        lr_scheduler_type="constant",
        learning_rate=loops.ADAMW.lr,
        weight_decay=loops.ADAMW.weight_decay,
        max_grad_norm=0.0,
        save_strategy="no" if zero else "steps",
        train_sampling_strategy="sequential",
    )
    model = Model(0.0 if zero else 1.0)
    settings = {"lr": loops.ADAMW.lr, "weight_decay": loops.ADAMW.weight_decay}
    own: dict[str, Any] = {}
    if way == "cls_and_kwargs":
        own = {"optimizer_cls_and_kwargs": (AdamW, settings)}
    elif way == "optimizers":
        own = {"optimizers": (loops.ours(model)[0], None)}
    elif way == "factory":
        own = {"optimizer_cls_and_kwargs": (MuonAndAdamW, {})}
    callback = AlphaDecayCallback(interval=interval)
    watch = Watch(callback, WAYS[way], zero)
    kind = OwnOptimizer if way == "create_optimizer" else transformers.Trainer
    trainer = kind(
        model, arguments, train_dataset=InOrder(STEPS), callbacks=[callback, watch], **own
    )
    return trainer, callback, watch


def zero_gradient_steps(folder: str, way: str, world: int) -> str:
    """Check three steps; return what the model was wrapped in."""
    trainer, _, watch = trainer_of(folder, way, steps=3, zero=True, world=world)
    trainer.train()
    assert watch.checked == 3
    assert watch.refreshed == [2, 4]
    return type(trainer.model_wrapped).__name__


@pytest.mark.parametrize("way", WAYS)
def test_a_zero_gradient_step_decays_by_module(tmp_path: Path, way: str) -> None:
    assert zero_gradient_steps(str(tmp_path), way, world=1) == "Model"


def on_a_rank(rank: int, folder: str) -> list[str]:
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    return [zero_gradient_steps(f"{folder}/{way}", way, world=2) for way in WAYS]


def test_a_zero_gradient_step_decays_by_module_on_two_ranks(tmp_path: Path) -> None:
    ranks = run_ranks(2, on_a_rank, str(tmp_path))
    assert ranks == [["DistributedDataParallel"] * len(WAYS)] * 2


@pytest.mark.parametrize("way", ["create_optimizer", "factory"])
def test_muon_beside_adamw_trains_as_a_plain_loop_and_resumes(tmp_path: Path, way: str) -> None:
    trainer, oracle, watch = trainer_of(str(tmp_path), way, steps=STEPS, interval=INTERVAL)
    trainer.train()
    assert watch.refreshed == [0, 4, 8, 12]
    plain = loops.Net()
    optimizers = loops.muon(plain)
    decay = AlphaDecay(plain, optimizers, interval=INTERVAL)
    loops.train(plain, optimizers, decay, STEPS)
    whole = loops.snapshot(trainer.model.net)
    assert all(torch.equal(whole[name], weight) for name, weight in loops.snapshot(plain).items())
    resumed, callback, _ = trainer_of(str(tmp_path), way, steps=STEPS, interval=INTERVAL)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{SAVE}"))
    assert callback.decay is not None and oracle.decay is not None
    assert callback.decay.state_dict() == oracle.decay.state_dict()
    weights = loops.snapshot(resumed.model.net)
    assert all(torch.equal(weights[name], weight) for name, weight in whole.items())


def test_a_schedule_reaches_chained_optimizers_after_a_load() -> None:
    model = loops.Net()
    chained = ChainedOptimizer(loops.muon(model))
    schedule = torch.optim.lr_scheduler.LambdaLR(chained, lambda step: 1.0 / (1 + step))
    loops.zero_loss(model).backward()
    chained.step()
    schedule.step()
    chained.load_state_dict(chained.state_dict())
    schedule.step()
    rates = [optimizer.param_groups[0]["lr"] for optimizer in chained.optimizers]
    assert rates == pytest.approx([loops.MUON.lr / 3, loops.ADAMW.lr / 3])


def test_a_second_callback_is_refused(tmp_path: Path) -> None:
    trainer, _, _ = trainer_of(str(tmp_path), "default", steps=3)
    trainer.add_callback(AlphaDecayCallback(interval=3))
    with pytest.raises(ValueError, match="has an AlphaDecay already"):
        trainer.train()


def test_the_optimizer_is_given_back_when_training_ends(tmp_path: Path) -> None:
    trainer, _, _ = trainer_of(str(tmp_path), "default", steps=2)
    trainer.train()
    AlphaDecay(trainer.model, trainer.optimizer, interval=INTERVAL)
