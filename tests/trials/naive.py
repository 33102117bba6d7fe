"""Saves as a first version has them: into their final place, and no commit.

Where they are to be asynchronous, a thread writes the tensors that the training goes on to change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train.engines.fsdp2_state import flat_state, make_moments


def optimizer_of(trainer: Any) -> torch.optim.Optimizer:
    """Return torch's own optimizer, whose state are the moments."""
    engine = trainer.engine
    found: torch.optim.Optimizer = engine.optimizer or engine.handle.optimizer.optimizer
    return found


class NaiveSaves:
    """What a rank saves, and finds again after a kill.

    Args:
        in_thread: a thread writes each file.
        say: tells what it is about.
    """

    def __init__(self, trainer: Any, in_thread: bool, say: Callable[..., None]) -> None:
        self._trainer = trainer
        self._engine = trainer.engine
        self._in_thread = in_thread
        self._say = say
        self._folder: Path = trainer.folder / "naive"
        self._threads: list[threading.Thread] = []
        self._began = 0
        if self._engine.optimizer is None:
            self._engine.handle.checkpoint_engine.save = self._write

    def save(self) -> None:
        """Write this rank's files, or have them written."""
        self._end()
        self._began = self._trainer.step
        if self._engine.optimizer is None:
            self._engine.handle.save_checkpoint(
                str(self._folder), tag="checkpoint", client_state={"step": self._began}
            )
        else:
            self._folder.mkdir(exist_ok=True)
            self._write({"step": self._began, "tensors": self._tensors()}, str(self._file))
        if not self._in_thread:
            self._end()

    def load(self) -> None:
        """Take in what is there, if anything is."""
        if not self._folder.exists():
            return
        if self._engine.optimizer is None:
            path, state = self._engine.handle.load_checkpoint(str(self._folder))
            self._trainer.progress.step = 0 if path is None else int(state["step"])
            return
        state = torch.load(self._file, weights_only=True)
        make_moments(self._engine.optimizer)
        with torch.no_grad():
            for name, own in self._tensors().items():
                own.copy_(state["tensors"][name])
        self._trainer.progress.step = int(state["step"])

    @property
    def _file(self) -> Path:
        return self._folder / f"rank_{self._trainer.world.rank}.pt"

    def _tensors(self) -> dict[str, Tensor]:
        """Return the live tensors of this rank under FSDP2."""
        tensors = flat_state(self._engine.module, self._engine.optimizer)
        return {name: getattr(own, "_local_tensor", own) for name, own in tensors.items()}

    def _write(self, state_dict: Any, path: str) -> None:
        if not self._in_thread:
            self._write_now(state_dict, path)
            return
        thread = threading.Thread(target=self._write_now, args=(state_dict, path), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _write_now(self, state_dict: Any, path: str) -> None:
        self._say("writing")
        torch.save(state_dict, path)
        self._say("wrote")

    def _end(self) -> None:
        """Wait for the files of the save before, and tell of it."""
        for thread in self._threads:
            thread.join()
        self._threads = []
        if self._began and self._trainer.world.is_main:
            self._say("saved", self._began)
        self._began = 0
