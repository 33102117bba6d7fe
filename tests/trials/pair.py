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

from tests.trials.naive import NaiveSaves, optimizer_of

RANKS = 2
GUARD = 300.0  # seconds without a word from a rank: it hangs


class Pair:
    """Two forked ranks; this process has imported everything and started no thread.

    Args:
        folder: where they meet and log.
        arguments: of the program.
        naive: they save as a first version would.
    """

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
        in_thread = trainer.config.checkpoint.asynchronous is not False
        _train_naive(trainer, NaiveSaves(trainer, in_thread, say), say)
    else:
        with held_trainer(rank, RANKS, arguments) as trainer:
            _train(trainer, say)


def _train(trainer: Any, say: Callable[..., None]) -> None:
    """Train for ever, and tell of every file written and every checkpoint saved."""
    _check_whole(trainer)
    main = trainer.world.is_main
    save = trainer.save
    note = trainer.saver.outcomes.on_saved

    def told_save(last: bool = False) -> None:
        if main:
            say("saving", trainer.step)
        save(last)

    def told_note(saved: Any) -> None:
        note(saved)
        if main:
            say("saved", saved.step)

    trainer.save = told_save
    trainer.saver.outcomes.on_saved = told_note
    _tell_of_writing(trainer, say)
    if main:
        say("loaded", trainer.step)
    trainer.train()


def _tell_of_writing(trainer: Any, say: Callable[..., None]) -> None:
    """Have this rank tell when it writes, and its process when that writes beside it."""
    from train.checkpoint.writer import Writer

    state = trainer.engine.write_state
    write = Writer.write

    def told_state(*args: Any) -> Any:
        say("writing")
        written = state(*args)
        say("wrote")
        return written

    def told_write(*args: Any) -> Any:
        written = write(*args)
        say("writing")
        written.add_done_callback(lambda _: say("wrote"))
        return written

    trainer.engine.write_state = told_state
    Writer.write = told_write  # type: ignore[method-assign]


def _train_naive(trainer: Any, saves: NaiveSaves, say: Callable[..., None]) -> None:
    """Do the same with saves as a first version has them."""
    saves.load()
    _check_whole(trainer)

    def told_save(last: bool = False) -> None:
        if trainer.world.is_main:
            say("saving", trainer.step)
        saves.save()

    trainer.save = told_save
    if trainer.world.is_main:
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
    states = optimizer_of(trainer).state.values()
    counts = {int(state["step"]) for state in states if "step" in state}
    steps = {rank: sorted(taken) for rank, taken in enumerate(trainer.world.gather(counts))}
    if trainer.step and any(counts != [trainer.step] for counts in steps.values()):
        raise AssertionError(f"step {trainer.step} is torn: the moments are of {steps}")
