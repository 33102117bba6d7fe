"""DeepSpeed, ZeRO 0 to 3, behind the engine protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alphadecay.optim import forget_dry_run, guard_stage0
from alphadecay.sharding.base import Span
from alphadecay.sharding.zero import engine_spans
from alphadecay.state import give_back_base
from train.config import TrainConfig
from train.engines.average import WeightAverage
from train.engines.by_name import is_universal, load_by_name
from train.engines.deepspeed_workarounds import (
    copy_masters_to_model,
    forgetting_forward_passes,
    import_muon_uncompiled,
    load_universal_average,
    without_memory_reports,
)
from train.engines.ds_config import computes_in_bf16, zero_stage
from train.engines.optimizer import build_optimizer, set_momentum
from train.engines.protocol import LogitsOf, WrittenState
from train.engines.snapshot import Snapshot
from train.errors import UserError
from train.models import spec_of
from train.models.build import build_model


class DeepSpeedEngine:
    """DeepSpeed's engine as the loop sees it.

    Args:
        handle: the engine that deepspeed.initialize gave.
        ema: share of the old value in the average of the weights; 0 keeps none.
    """

    def __init__(self, handle: Any, ema: float = 0.0) -> None:
        self.handle = handle
        self.module: nn.Module = handle.module
        self.optimizer = None  # AlphaDecay finds it in the handle
        self.dtype = next(handle.module.parameters()).dtype
        stage = int(handle.zero_optimization_stage())
        self.keeps_masters = stage > 0 or self.dtype != torch.float32
        # What lies on an NVMe disk is copied there, file by file.
        self.snapshots = not handle.zero_nvme_offload_optimizer()
        self.layout = {"engine": "deepspeed", "zero_stage": stage}
        self.average = self._begin_average(ema) if ema else None

    def forward(self, inputs: Mapping[str, Tensor]) -> Any:
        """Return what the model makes of a micro batch."""
        return self.handle(**inputs)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a micro batch."""
        self.handle.backward(loss)

    def step(self) -> None:
        """Update the weights; DeepSpeed knows where the accumulation boundaries are."""
        self.handle.step()
        if self.average is not None and self.step_was_applied():
            self.average.update()

    def step_was_applied(self) -> bool:
        """Return whether the last boundary updated the weights."""
        return bool(self.handle.was_step_applied())

    def gradient_norm(self) -> float:
        """Return the global gradient norm of the last boundary, before clipping."""
        norm = self.handle.get_global_grad_norm()
        return nan if norm is None else float(norm)

    def set_learning_rate(self, lr: float) -> None:
        """Set it in every param group; the optimizer reads it at step time."""
        for group in self.handle.optimizer.param_groups:
            group["lr"] = lr

    def set_momentum(self, momentum: float) -> None:
        """Set it in every param group; the optimizer reads it at step time."""
        set_momentum(self.handle.optimizer, momentum)

    def set_weight_decay(self, weight_decay: float) -> None:
        """Set it in every param group; whoever decays reads it at step time."""
        for group in self.handle.optimizer.param_groups:
            group["weight_decay"] = weight_decay

    @contextmanager
    def evaluating(self) -> Iterator[LogitsOf]:
        """Give a function from inputs to logits that leaves no trace in ZeRO-3's prefetching."""
        self.handle.eval()
        forget = forgetting_forward_passes(self.handle)

        def logits_of(inputs: Mapping[str, Tensor]) -> Tensor:
            logits: Tensor = self.handle(**inputs).logits
            forget()
            return logits

        yield logits_of
        self.handle.train()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the average in the place of the masters and of the model's own copies of them."""
        self._swap()
        yield
        self._swap()

    def master_spans(self) -> list[Span]:
        """Return where this rank's float32 masters lie."""
        return list(engine_spans(self.handle, self._base_optimizer()))

    def write_state(self, folder: Path, client_state: Mapping[str, Any]) -> WrittenState:
        """Have DeepSpeed write its state files into `folder`."""
        written = WrittenState()
        self._save(folder, client_state, _Writer(self.handle.checkpoint_engine, written))
        return written

    def snapshot_state(self, folder: Path, client_state: Mapping[str, Any]) -> Snapshot:
        """Have DeepSpeed say what it would write."""
        snapshot = Snapshot()
        self._save(folder, client_state, _Taker(self.handle.checkpoint_engine, snapshot))
        return snapshot

    def read_state(self, folder: Path) -> dict[str, Any]:
        """Load weights, moments and client state.

        DeepSpeed asks for full unpickling; `train.checkpoint.load` does not let it.

        Raises:
            UserError: there is nothing to load.
        """
        if is_universal(folder) and not self.handle.load_universal_checkpoint():
            return self._read_by_name(folder)
        clip = getattr(self.handle.optimizer, "clip_grad", None)
        path, client_state = self.handle.load_checkpoint(str(folder.parent), tag=folder.name)
        if path is None:
            raise UserError(f"DeepSpeed found nothing to load in {folder}")
        if self.average is not None and self.handle.load_universal_checkpoint():
            load_universal_average(self.handle, folder)
        if clip is not None:
            # Stages 1 and 2 take the saved one; the recipe owns it.
            self.handle.optimizer.clip_grad = clip
        give_back_base(self.handle.optimizer.param_groups)
        return dict(client_state)

    def _read_by_name(self, folder: Path) -> dict[str, Any]:
        """Load what another engine wrote, or ZeRO stage 0, or an optimizer that is not Adam."""
        if not self.snapshots:
            raise UserError(
                f"{folder} goes into an optimizer in memory, and this run's is on an NVMe disk; "
                "offload it to the cpu"
            )
        spans = self.master_spans()
        common = load_by_name(folder, self.module, spans, self._base_optimizer())
        copy_masters_to_model(self.handle, spans)
        self.handle.global_steps = common.steps
        return common.client_state

    def _base_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer that DeepSpeed wraps."""
        optimizer: torch.optim.Optimizer = (
            getattr(self.handle, "basic_optimizer", None) or self.handle.optimizer
        )
        return optimizer

    def _begin_average(self, ema: float) -> WeightAverage:
        optimizer = self._base_optimizer()
        groups = optimizer.param_groups
        return WeightAverage(
            optimizer, {span.tensor: groups[span.group] for span in self.master_spans()}, ema
        )

    def _swap(self) -> None:
        assert self.average is not None
        self.average.swap()
        copy_masters_to_model(self.handle, self.master_spans())

    def _save(self, folder: Path, client_state: Mapping[str, Any], writer: Any) -> None:
        with _writing_through(self.handle, writer):
            self.handle.save_checkpoint(
                str(folder.parent),
                tag=folder.name,
                client_state=dict(client_state),
                save_latest=False,
            )


def build_engine(
    config: TrainConfig, ds_config: dict[str, Any], device: torch.device | None = None
) -> DeepSpeedEngine:
    """Build model, optimizer and engine. Collective.

    Args:
        ds_config: from `load_ds_config`.
        device: where the weights are made; with None DeepSpeed moves them there.
    """
    import deepspeed

    import_muon_uncompiled()
    # DeepSpeed takes its masters from the weights in bf16: nothing is lost by making them so.
    dtype = torch.bfloat16 if computes_in_bf16(ds_config) else torch.float32
    model = build_model(
        config.model,
        config.positions,
        config.run.seed_of_init,
        ds_config,
        dtype,
        device,
        config.loss.z_loss,
    )
    spec = spec_of(config.model)
    if zero_stage(ds_config) == 3 and config.deepspeed.leaf_layers:
        for layer in spec.layers(model):
            deepspeed.utils.set_z3_leaf_module(layer, True)
    optimizer: torch.optim.Optimizer = build_optimizer(config, model.parameters())
    with without_memory_reports():
        handle, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=ds_config)
    spec.restore_buffers(handle.module)  # DeepSpeed casts them to bf16
    forget_dry_run(optimizer)
    guard_stage0(handle, optimizer)
    return DeepSpeedEngine(handle, config.optim.ema)


class _Writer:
    """Stands in for DeepSpeed's writer of files, so that failures are noted and not raised."""

    def __init__(self, writer: Any, written: WrittenState) -> None:
        self._writer = writer
        self._written = written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder as the writer does."""
        self._written.attempt(Path(path), lambda: self._writer.makedirs(path, exist_ok=exist_ok))

    def save(self, state_dict: Any, path: str) -> None:
        """Write a file as the writer does."""
        self._written.save(Path(path), lambda: self._writer.save(state_dict, path))


class _Taker(_Writer):
    """Stands in for it to take what would be written."""

    def __init__(self, writer: Any, snapshot: Snapshot) -> None:
        super().__init__(writer, snapshot)
        self._snapshot = snapshot

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: who writes the files makes their folders."""

    def save(self, state_dict: Any, path: str) -> None:
        """Take a file's content."""
        self._snapshot.take(Path(path), state_dict)


@contextmanager
def _writing_through(handle: Any, writer: Any) -> Iterator[None]:
    """Send DeepSpeed's files through `writer`.

    Its recovery scripts, which unpickle whatever they find, are left out.
    """
    before = handle.checkpoint_engine
    handle.checkpoint_engine = writer
    handle._copy_recovery_script = lambda folder: None
    try:
        yield
    finally:
        handle.checkpoint_engine = before
        del handle._copy_recovery_script
