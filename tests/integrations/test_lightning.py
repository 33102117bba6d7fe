"""AlphaDecayCallback in Lightning's Trainer: one process, DDP ranks, accumulation, checkpoints."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from alphadecay import AlphaDecay
from tests.conftest import ROOT
from tests.distributed.harness import run_ranks
from tests.integrations import loops

pytestmark = pytest.mark.integrations
lightning: Any = pytest.importorskip("lightning.pytorch", reason="made by make integrations")
from alphadecay.integrations.lightning import AlphaDecayCallback  # noqa: E402

STEPS = 12
SAVE = 6
INTERVAL = 4


class Module(lightning.LightningModule):
    """The small language model; several optimizers mean manual optimization, as Lightning has it.

    Args:
        kind: an entry of OPTIMIZERS.
        scale: by which the loss is multiplied; 0 makes all gradients zero.
    """

    def __init__(self, kind: str, scale: float = 1.0) -> None:
        super().__init__()
        self.net = loops.Net()
        self.kind = kind
        self.scale = scale
        self.automatic_optimization = kind != "muon"
        self.factors: list[dict[str, float]] = []
        self.before: dict[str, torch.Tensor] = {}

    def configure_optimizers(self) -> Any:
        return loops.OPTIMIZERS[self.kind](self)

    def training_step(self, input_ids: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = loops.loss_of(self.net(input_ids), input_ids) * self.scale
        if not self.automatic_optimization:
            optimizers = self.optimizers()
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in optimizers:
                optimizer.step()
        return loss


class Watch(lightning.Callback):
    """Compares every weight with what the steps on zero gradients owe it."""

    def __init__(self, callback: AlphaDecayCallback, kind: str) -> None:
        self.callback = callback
        self.kind = kind
        self.checked = 0
        self.wrapped = ""
        self.refreshed: list[int] = []

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        decay = self.callback.decay
        self.wrapped = type(trainer.strategy.model).__name__
        self.before = loops.snapshot(pl_module)
        loops.assert_three_decays(decay, self.kind)
        self.factors = loops.expected_factors(decay, self.before, self.kind)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.callback.decay.last_refresh_step not in self.refreshed:
            self.refreshed.append(self.callback.decay.last_refresh_step)
        if pl_module.scale == 0.0:
            error, name = loops.worst(self.before, loops.snapshot(pl_module), self.factors)
            assert error <= loops.TOLERANCE, (name, error)
            self.checked += 1


def data(batches: int) -> Any:
    rows = torch.cat([loops.tokens(step) for step in range(batches)])
    return torch.utils.data.DataLoader(rows, batch_size=loops.tokens().shape[0])


def trainer_of(folder: str, callbacks: list[Any], **options: Any) -> Any:
    options = {"max_steps": STEPS, "devices": 1, "logger": False, **options}
    return lightning.Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(
            isinstance(each, lightning.callbacks.ModelCheckpoint) for each in callbacks
        ),
        default_root_dir=folder,
        **options,
    )


def zero_gradient_steps(folder: str, kind: str, **options: Any) -> str:
    """Check three steps; return what the model was wrapped in."""
    callback = AlphaDecayCallback(interval=2)
    watch = Watch(callback, kind)
    trainer = trainer_of(folder, [callback, watch], max_steps=-1, max_epochs=1, **options)
    trainer.fit(Module(kind, scale=0.0), data(3 * options.get("devices", 1)))
    assert watch.checked == 3
    assert watch.refreshed == [2, 4]
    return watch.wrapped


@pytest.mark.parametrize("kind", loops.OPTIMIZERS)
def test_a_zero_gradient_step_decays_by_module(tmp_path: Path, kind: str) -> None:
    assert zero_gradient_steps(str(tmp_path), kind) == "Module"


def on_a_rank(rank: int, folder: str) -> list[str]:
    return [
        zero_gradient_steps(folder, kind, devices=2, strategy="ddp") for kind in loops.OPTIMIZERS
    ]


def test_a_zero_gradient_step_decays_by_module_on_two_ranks(tmp_path: Path) -> None:
    ranks = run_ranks(2, on_a_rank, str(tmp_path))
    assert ranks == [["DistributedDataParallel"] * 3] * 2


def test_accumulation_counts_optimizer_steps(tmp_path: Path) -> None:
    callback = AlphaDecayCallback(interval=INTERVAL)
    watch = Watch(callback, "stock")
    trainer = trainer_of(str(tmp_path), [callback, watch], accumulate_grad_batches=3)
    trainer.fit(Module("stock"), data(3 * STEPS))
    assert trainer.global_step == STEPS
    assert watch.refreshed == [0, 4, 8, 12]
    assert callback.decay.state_dict()["step"] == STEPS


def test_trains_as_a_plain_loop(tmp_path: Path) -> None:
    callback = AlphaDecayCallback(interval=INTERVAL)
    module = Module("stock")
    trainer_of(str(tmp_path), [callback]).fit(module, data(STEPS))
    plain = loops.Net()
    optimizers = loops.stock(plain)
    decay = AlphaDecay(plain, optimizers, interval=INTERVAL)
    loops.train(plain, optimizers, decay, STEPS)
    assert {f"net.{name}": value for name, value in decay.alphas.items()} == callback.decay.alphas
    weights = loops.snapshot(module.net)
    assert all(torch.equal(weights[name], weight) for name, weight in loops.snapshot(plain).items())


# measured before step 4 and in force from step 7: the save after step 6 falls between
@pytest.mark.parametrize("spread", [0, 3])
@pytest.mark.parametrize("kind", loops.OPTIMIZERS)
def test_a_checkpoint_goes_on_as_if_uninterrupted(tmp_path: Path, kind: str, spread: int) -> None:
    def run(ckpt_path: str | None) -> tuple[Module, AlphaDecayCallback]:
        checkpoint = lightning.callbacks.ModelCheckpoint(
            tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True
        )
        callback = AlphaDecayCallback(interval=INTERVAL, spread=spread)
        trainer = trainer_of(
            str(tmp_path), [callback, checkpoint], max_steps=-1, max_epochs=STEPS // SAVE
        )
        module = Module(kind)
        trainer.fit(module, data(SAVE), ckpt_path=ckpt_path)
        return module, callback

    whole, oracle = run(None)
    resumed, callback = run(str(tmp_path / "epoch=0.ckpt"))
    assert callback.decay.state_dict() == oracle.decay.state_dict()
    assert callback.decay.state_dict()["step"] == STEPS
    weights = loops.snapshot(resumed)
    assert all(torch.equal(weights[name], weight) for name, weight in loops.snapshot(whole).items())


def test_a_checkpoint_from_before_alphadecay_keeps_the_schedule(tmp_path: Path) -> None:
    checkpoint = lightning.callbacks.ModelCheckpoint(
        tmp_path, every_n_train_steps=SAVE, filename="{step}", save_top_k=-1
    )
    trainer_of(str(tmp_path), [checkpoint], max_steps=SAVE).fit(Module("stock"), data(STEPS))
    callback = AlphaDecayCallback(interval=INTERVAL)
    watch = Watch(callback, "stock")
    trainer = trainer_of(str(tmp_path), [callback, watch])
    trainer.fit(Module("stock"), data(STEPS), ckpt_path=str(tmp_path / f"step={SAVE}.ckpt"))
    assert watch.refreshed == [8, 12]  # as in a run that had it from its start


def test_training_goes_on_in_a_second_fit_and_under_a_second_callback(tmp_path: Path) -> None:
    callback = AlphaDecayCallback(interval=INTERVAL)
    module = Module("stock")
    trainer = trainer_of(str(tmp_path), [callback], max_steps=6)
    trainer.fit(module, data(6))
    trainer.fit_loop.max_epochs = 2
    trainer.fit_loop.epoch_loop.max_steps = STEPS
    trainer.fit(module, data(6))
    assert callback.decay.state_dict()["step"] == STEPS
    assert callback.decay.last_refresh_step == STEPS
    after = AlphaDecayCallback(interval=2)
    trainer_of(str(tmp_path), [after], max_steps=3).fit(module, data(3))
    assert after.decay.last_refresh_step == 4


def test_the_optimizer_is_given_back_when_training_ends(tmp_path: Path) -> None:
    callback = AlphaDecayCallback(interval=INTERVAL)
    module = Module("stock")
    trainer = trainer_of(str(tmp_path), [callback], max_steps=2)
    trainer.fit(module, data(2))
    (optimizer,) = trainer.optimizers
    before = loops.snapshot(module.net)
    optimizer.zero_grad()
    optimizer.state.clear()
    loops.zero_loss(module.net).backward()
    optimizer.step()
    factors = dict.fromkeys(before, 1.0 - loops.ADAMW.lr * loops.ADAMW.weight_decay)
    assert loops.worst(before, loops.snapshot(module.net), factors)[0] <= loops.TOLERANCE


def test_an_interrupt_gives_the_optimizer_back(tmp_path: Path) -> None:
    class Interrupted(Module):
        def training_step(self, input_ids: torch.Tensor, batch_idx: int) -> torch.Tensor:
            if batch_idx == 1:
                raise RuntimeError("the data ran out")
            return super().training_step(input_ids, batch_idx)

    callback = AlphaDecayCallback(interval=INTERVAL)
    module = Interrupted("stock")
    with pytest.raises(RuntimeError, match="the data ran out"):
        trainer_of(str(tmp_path), [callback]).fit(module, data(STEPS))
    optimizers = loops.stock(module)
    AlphaDecay(module, optimizers, interval=INTERVAL)


def test_each_refresh_is_logged(tmp_path: Path) -> None:
    logger = lightning.loggers.CSVLogger(str(tmp_path))
    callback = AlphaDecayCallback(interval=INTERVAL)
    trainer_of(str(tmp_path), [callback], logger=logger).fit(Module("stock"), data(STEPS))
    with open(Path(logger.log_dir) / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["alphadecay/alpha_min"]]
    assert [int(row["step"]) for row in rows] == [0, 3, 7, 11]
    decays = callback.decay.weight_decays.values()
    assert float(rows[-1]["alphadecay/weight_decay_max"]) == max(decays)


def test_it_is_of_the_package_that_is_loaded() -> None:
    for package in ("pytorch_lightning", "lightning.pytorch"):
        script = (
            f"import {package} as loaded\n"
            "from alphadecay.integrations.lightning import AlphaDecayCallback\n"
            "assert issubclass(AlphaDecayCallback, loaded.Callback)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr


def test_a_second_callback_is_refused(tmp_path: Path) -> None:
    callbacks = [AlphaDecayCallback(interval=INTERVAL), AlphaDecayCallback(interval=INTERVAL)]
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        trainer_of(str(tmp_path), callbacks)


def test_a_controller_beside_the_callback_is_refused(tmp_path: Path) -> None:
    class Module2(Module):
        def configure_optimizers(self) -> Any:
            optimizers = super().configure_optimizers()
            self.own = AlphaDecay(self.net, optimizers)
            return optimizers

    trainer = trainer_of(str(tmp_path), [AlphaDecayCallback(interval=INTERVAL)])
    with pytest.raises(ValueError, match="has an AlphaDecay already"):
        trainer.fit(Module2("stock"), data(STEPS))
