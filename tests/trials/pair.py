"""Runs the program on two forked ranks that tell what they are about, and kills them."""

from __future__ import annotations

import os
import random
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

RANKS = 2
GUARD = 300.0  # seconds without a word from a rank: it hangs


class Pair:
    """Two forked ranks; this process has imported everything and started no thread."""

    def __init__(self, folder: Path, arguments: Sequence[str], naive: bool) -> None:
        self._read, write = os.pipe()
        self._log = folder / "ranks.log"
        meet = tempfile.mktemp(dir=folder, prefix=".meet-")
        self._pids = [self._fork(rank, meet, arguments, naive, write) for rank in range(RANKS)]
        os.close(write)
        self._buffer = b""

    def _fork(self, rank: int, meet: str, arguments: Sequence[str], naive: bool, tell: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            _rank(rank, meet, arguments, naive, tell)
        except BaseException as error:
            traceback.print_exc()
            reason = str(error).partition("\n")[0]
            os.write(tell, f"failed rank {rank}: {type(error).__name__}: {reason}\n".encode())
        os._exit(1)

    def hear(self, until: float | None = None) -> list[str] | None:
        """Return the next thing said, as words.

        It is None at `until` (seconds of time.monotonic()), and [] when both ranks have ended.
        """
        while b"\n" not in self._buffer:
            left = GUARD if until is None else until - time.monotonic()
            ready, _, _ = select.select([self._read], [], [], max(0.0, left))
            if not ready:
                if until is None:
                    return ["failed", "a", "rank", "hangs"]
                return None
            piece = os.read(self._read, 65536)
            if not piece:
                return []
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode().split()

    def kill(self, chance: random.Random) -> None:
        """Kill both, in either order."""
        for pid in chance.sample(self._pids, RANKS):
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids:
            os.waitpid(pid, 0)

    def rest(self) -> list[list[str]]:
        """Return what had been said before the kill and not heard yet."""
        unheard = []
        while words := self.hear():
            unheard.append(words)
        os.close(self._read)
        return unheard


def _rank(rank: int, meet: str, arguments: Sequence[str], naive: bool, tell: int) -> None:
    """Run the program on one rank, and tell on a pipe what it is about."""

    def say(*words: object) -> None:
        os.write(tell, (" ".join(map(str, words)) + "\n").encode())

    from tests.integration.ranks import held_trainer, make_trainer

    _join(rank, meet)
    if naive:
        trainer = make_trainer(rank, RANKS, arguments)
        _train(rank, trainer, _naive(trainer), say)
    else:
        with held_trainer(rank, RANKS, arguments) as trainer:
            _train(rank, trainer, trainer.save, say)


def _train(rank: int, trainer: Any, save: Callable[..., None], say: Callable[..., None]) -> None:
    """Train for ever, and tell of every file written and every checkpoint saved."""
    _check_whole(trainer)

    def told_save(last: bool = False) -> None:
        if rank == 0:
            say("saving", trainer.step)
        save()
        if rank == 0:
            say("saved", trainer.step)

    write = trainer.engine.handle.checkpoint_engine.save

    def told_write(*args: Any, **kwargs: Any) -> None:
        say("writing")
        write(*args, **kwargs)
        say("wrote")

    trainer.engine.handle.checkpoint_engine.save = told_write
    trainer.save = told_save
    if rank == 0:
        say("loaded", trainer.step)
    trainer.train()


def _join(rank: int, meet: str) -> None:
    """Start the process group; the ranks meet in a file."""
    import torch.distributed as dist

    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_SIZE=str(RANKS)
    )
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")  # unused
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meet}",
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=GUARD),
    )


def _check_whole(trainer: Any) -> None:
    """Raise where the ranks' moments are of different steps.

    That loads without a word, and is no state the run ever had.
    """
    states = trainer.engine.handle.optimizer.optimizer.state.values()
    counts = {int(state["step"]) for state in states if "step" in state}
    steps = {rank: sorted(taken) for rank, taken in enumerate(trainer.world.gather(counts))}
    if trainer.step and any(counts != [trainer.step] for counts in steps.values()):
        raise AssertionError(f"step {trainer.step} is torn: the moments are of {steps}")


def _naive(trainer: Any) -> Callable[[], None]:
    """Return a save as a first version has it: one folder, and DeepSpeed's own `latest`."""
    folder = str(trainer.folder / "naive")
    if os.path.exists(folder):
        path, state = trainer.engine.handle.load_checkpoint(folder)
        trainer.step = 0 if path is None else int(state["step"])

    def save() -> None:
        trainer.engine.handle.save_checkpoint(
            folder, tag="checkpoint", client_state={"step": trainer.step}
        )

    return save
