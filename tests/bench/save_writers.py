"""A training loop that saves by any of DeepSpeed's checkpoint writers, or by this program's.

Imported where a bench is the main file: what it changes in DeepSpeed at its import holds in the
processes that DeepSpeed spawns too.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import torch

from tests.bench.common import ENVIRONMENT

os.environ.update(ENVIRONMENT | dict(os.environ))  # DeepSpeed reads it at its import

from deepspeed.io import fast_file_writer
from deepspeed.ops.op_builder import AsyncIOBuilder, PinMemoryBuilder
from deepspeed.ops.op_builder.utils import UtilsBuilder
from deepspeed.runtime.model_checkpointing.config import get_checkpoint_writer_config

from tests.bench.save import Loop
from tests.engines import loss_of_text
from train.cluster.distributed import World
from train.config import TrainConfig

# DeepSpeed has this op for GPUs only.
fast_file_writer.UtilsBuilder = UtilsBuilder

PLAIN = "torch"
# Below stage 3 DeepSpeed 0.19.8 raises an AttributeError where this is not set.
REPLICA = {"data_parallel": "replica"}
WRITERS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "python": {"type": "python", **REPLICA},
    "fast": {"type": "fast", **REPLICA},
    "python_decoupled": {"type": "python", "decoupled": True, **REPLICA},
    "fast_decoupled": {"type": "fast", "decoupled": True, **REPLICA},
}
KILLED_AT = 0.3  # of a whole checkpoint's bytes
PATIENCE = 60.0  # seconds, for that many bytes to be there


def runnable() -> list[str]:
    """Return the writers that can run here."""
    return [name for name in WRITERS if "fast" not in name or AsyncIOBuilder().is_compatible()]


def build_ops() -> None:
    """Build what the fast writer needs: a rank that builds it keeps the other waiting."""
    for builder in (AsyncIOBuilder(), PinMemoryBuilder(), UtilsBuilder()):
        builder.load(verbose=False)


class WritersLoop(Loop):
    """A Loop whose engine can save by each of DeepSpeed's writers too."""

    def __init__(
        self, config: TrainConfig, world: World, folder: Path, names: tuple[str, ...]
    ) -> None:
        super().__init__(config, world, folder)
        self.folder = folder
        self.handle: Any = self.engine.handle
        self._writers = {name: self._build(WRITERS[name]) for name in names}
        self.use(PLAIN)
        self._wait = 0.0
        self.passes: list[float] = []

    def use(self, name: str) -> None:
        """Let DeepSpeed write as it would if it had been configured so."""
        self.handle.checkpoint_engine, self.handle.save_non_zero_checkpoint = self._writers[name]

    def sync(self) -> None:
        """Leave nothing to write of earlier saves."""
        if self.world.is_main:
            os.sync()
        self.world.barrier()

    def save_by(self, name: str) -> tuple[float, float]:
        """Save by one of DeepSpeed's writers and take a step; return the seconds of both waits."""
        self.use(name)
        folder = self.folder / name
        tag = f"step{self._steps}"
        older = list(folder.glob("step*"))
        seconds = self.slowest(lambda: self._save(folder, tag))
        self.step()
        if self.world.is_main:
            for path in older:
                shutil.rmtree(path)
        self.world.barrier()
        self.use(PLAIN)
        return seconds, self._wait

    def load(self, name: str) -> dict[str, str]:
        """Save and step; return what each writer that reads the checkpoint makes of it."""
        saved = [master.detach().clone() for master in self._masters()]
        self.save_by(name)
        found = {}
        for reader in dict.fromkeys((name, PLAIN)):
            self.use(reader)
            try:
                path, _ = self.handle.load_checkpoint(str(self.folder / name))
            except Exception as error:
                found[reader] = f"{type(error).__name__}: {error}".partition(". ")[0].strip()
            else:
                same = path is not None and all(map(torch.equal, self._masters(), saved))
                found[reader] = "the saved weights" if same else "not the saved weights"
        self.use(PLAIN)
        return found

    def kill(self, name: str) -> dict[str, Any]:
        """Kill every rank's writer in the middle of a checkpoint; return what is said and left."""
        self.use(name)
        folder = self.folder / name
        (whole,) = folder.glob("step*")
        sizes = {path.name: path.stat().st_size for path in sorted(whole.iterdir())}
        self._save(folder, "torn")
        process = self.handle.checkpoint_engine.ckpt_process
        until = time.monotonic() + PATIENCE
        while _size(folder / "torn") < KILLED_AT * sum(sizes.values()) and time.monotonic() < until:
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        said = self._said_by_step()
        self.world.barrier()
        found = {
            "step_said": said,
            "latest": (folder / "latest").read_text(),
            "whole": whole.name,
            "left_of_size": {
                path.name: path.stat().st_size / sizes[path.name]
                for path in sorted((folder / "torn").iterdir())
                if path.suffix != ".py"
            },
        }
        self._save(folder, "next")
        found["next_save_left"] = sorted(path.name for path in (folder / "next").iterdir())
        found["next_step_said"] = self._said_by_step()
        self.use(PLAIN)
        return found

    def close(self) -> None:
        """End the processes beside this rank; nothing is in flight, or the bench has failed."""
        for writer, _ in self._writers.values():
            process = getattr(writer, "ckpt_process", None)
            if process is not None:
                process.kill()
        for saver in self.savers.values():
            saver.close()

    def _masters(self) -> list[torch.Tensor]:
        """Return this rank's float32 weights; many spans lie in one tensor."""
        tensors = [span.tensor for span in self.engine.master_spans()]
        return list({id(tensor): tensor for tensor in tensors}.values())

    def _build(self, config: dict[str, Any]) -> tuple[Any, bool]:
        handle = self.handle
        writer = get_checkpoint_writer_config({"writer": config}) if config else None
        handle._config.checkpoint_config = handle._config.checkpoint_config | {"writer": writer}
        handle.save_non_zero_checkpoint = False
        handle._configure_checkpointing()
        return handle.checkpoint_engine, handle.save_non_zero_checkpoint

    # With gradients the masters of stage 2 are views that autograd lets no process hand to another.
    @torch.no_grad()
    def _save(self, folder: Path, tag: str) -> None:
        self.handle.save_checkpoint(str(folder), tag=tag, client_state={"step": self._steps})

    def _said_by_step(self) -> str:
        """Return the error that the next optimizer step begins with."""
        try:
            self.handle._commit_decoupled_checkpoint()
        except RuntimeError as error:
            return str(error)
        return ""

    def _step(self, rows: torch.Tensor) -> None:
        began = time.perf_counter()
        loss = loss_of_text(self.engine, rows)
        self.engine.backward(loss)
        self.passes.append(time.perf_counter() - began)
        if self.handle.checkpoint_engine.is_decoupled():
            # step() begins with it, and then finds nothing left to wait for
            self._wait = self.slowest(self.handle._commit_decoupled_checkpoint)
        else:
            self._wait = 0.0
        self.engine.step()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".py")
