"""The program with a file system that fails now and then; launchers start this file.

FAULTS_BELOW names the folder whose files fail, FAULTS_SHARE the share of calls that do. A read gets
ESTALE or EIO, a write ENOSPC as well; which ones is drawn from FAULTS_SEED and this process.
RUIN_AT=n takes step n with an infinite learning rate, which ruins the weights. Every step waits for
STEP_SECONDS, and for as long as the file HOLD is there.
"""

from __future__ import annotations

import builtins
import errno
import io
import math
import os
import random
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)
READS = (errno.ESTALE, errno.EIO)
WRITES = (*READS, errno.ENOSPC)


class Faults:
    """Lets calls on files below one folder fail now and then.

    Args:
        folder: where they fail.
        share: of the calls.
        chance: draws which.
    """

    def __init__(self, folder: str, share: float, chance: random.Random) -> None:
        self._folder = folder
        self._share = share
        self._chance = chance

    def wrap(self, place: Any, name: str, writes: bool) -> None:
        """Have `place.name`, whose first argument is a path or a descriptor, fail now and then."""
        call: Callable[..., Any] = getattr(place, name)

        def failing(path: Any, *arguments: Any, **keywords: Any) -> Any:
            self._maybe_fail(path, writes or any(flag in arguments for flag in ("wb", "w", "ab")))
            return call(path, *arguments, **keywords)

        setattr(place, name, failing)

    def _maybe_fail(self, path: Any, writes: bool) -> None:
        if self._chance.random() >= self._share or not self._is_below(path):
            return
        number = self._chance.choice(WRITES if writes else READS)
        raise OSError(number, os.strerror(number), str(path))

    def _is_below(self, path: Any) -> bool:
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return False
        return os.path.abspath(os.fsdecode(path)).startswith(self._folder)


def let_files_fail() -> None:
    """Wrap the calls by which Python works on files."""
    chance = random.Random(f"{os.environ['FAULTS_SEED']} {os.getpid()}")
    share = float(os.environ["FAULTS_SHARE"])
    faults = Faults(os.environ["FAULTS_BELOW"], share, chance)
    for place in (builtins, io):
        faults.wrap(place, "open", writes=False)
    for name in ("open", "stat", "listdir", "scandir"):
        faults.wrap(os, name, writes=False)
    for name in ("fsync", "replace", "rename", "unlink", "mkdir"):
        faults.wrap(os, name, writes=True)


def change_steps(pause: float, ruin_at: int) -> None:
    """Pause before every step, and take one of them with an infinite learning rate."""
    from train.loop import trainer

    learning_rate = trainer.learning_rate
    hold = os.environ["HOLD"]

    def changed(optim: Any, step: int, steps: int) -> float:
        time.sleep(pause)
        while os.path.exists(hold):
            time.sleep(pause)
        return math.inf if step == ruin_at else learning_rate(optim, step, steps)

    trainer.learning_rate = changed


change_steps(float(os.environ["STEP_SECONDS"]), int(os.environ.get("RUIN_AT", "0")))
if "FAULTS_BELOW" in os.environ:
    let_files_fail()
runpy.run_path(str(ROOT / "train" / "pretrain.py"), run_name="__main__")
