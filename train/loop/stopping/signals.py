"""Notes requests to stop: a signal, the death of the launcher, a file.

A handler only takes a note; each rank's notes travel in the message that carries the loss, so every
rank stops after the same step.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from train.errors import Stopped

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP")
LAUNCHER = "the launcher is gone"
STOP_FILE = "stop file"
HOURS = "run.max_hours"
TAKEN_OVER = "output_dir was taken over by another job"
REASONS = (TAKEN_OVER, *SIGNALS, LAUNCHER, STOP_FILE, HOURS)
OWN_STOP_FILE = "TRAIN_STOP_FILE"  # names the file of own_stop_files
TO_BE_CONTINUED = 75  # EX_TEMPFAIL of sysexits.h: run it again
_LAUNCHERS = {
    "deepspeed",
    "ds",
    "deepspeed.launcher.runner",
    "deepspeed.launcher.launch",
    "torchrun",
    "torch.distributed.run",
}


class StopRequests:
    """The requests to stop that reached this process.

    Call `install` first, before anything slow is imported.

    Args:
        files: the stop files, looked for by rank 0; set once the output folder is known.

    Attributes:
        until: seconds of time.time() at which what has nothing to save is interrupted; None never.
    """

    def __init__(self, *files: Path) -> None:
        self.files = files
        self.until: float | None = None
        self._received: set[str] = set()
        self._launchers: list[Any] = []
        self._raise = False
        self._instead = ""  # what a SIGTERM of our own stands for

    def install(self) -> None:
        """Take the signals over, in this process only, and remember which ancestors launched it."""
        for name in SIGNALS:
            if name == "SIGHUP" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
                continue  # started by nohup
            signal.signal(getattr(signal, name), self._note)
        # A pool that ends its workers by SIGTERM must find them mortal, from their first moment on.
        os.register_at_fork(
            before=_block, after_in_parent=_unblock, after_in_child=_forget_handlers
        )
        self._launchers = launchers()

    def flags(self, out_of_time: bool = False, taken_over: bool = False) -> list[float]:
        """Return one number a reason, in the order of REASONS: 1 where this process has it."""
        present = dict.fromkeys(SIGNALS, False) | dict.fromkeys(self._received, True)
        present[LAUNCHER] = any(_dead(process) for process in self._launchers)
        present[STOP_FILE] = self._file_is_there()
        present[HOURS] = out_of_time
        present[TAKEN_OVER] = taken_over
        return [float(present[reason]) for reason in REASONS]

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise Stopped in the main thread when one is asked to stop, or the time is over.

        What came before raises on entry.
        """
        self._raise = True
        over = threading.Event()
        watch = threading.Thread(target=self._watch, args=(over,), daemon=True)
        try:
            if before := min(self._received, default="") or self._asked():
                raise Stopped(before)
            watch.start()
            yield
        finally:
            self._raise = False
            over.set()

    def honoured(self) -> None:
        """Remove the stop files: the next start is a new decision."""
        for file in self.files:
            with suppress(OSError):  # it stays, and is honoured again
                file.unlink(missing_ok=True)

    def _watch(self, over: threading.Event) -> None:
        while not self._asked() and not over.wait(1.0):
            pass
        if not over.is_set():
            self._instead = self._asked()
            os.kill(os.getpid(), signal.SIGTERM)

    def _asked(self) -> str:
        """Return what asks to stop besides signals; empty where nothing does."""
        if any(_dead(process) for process in self._launchers):
            return LAUNCHER
        if self.until is not None and time.time() >= self.until:
            return HOURS
        return STOP_FILE if self._file_is_there() else ""

    def _file_is_there(self) -> bool:
        return any(_is_there(file) for file in self.files)

    def _note(self, number: int, _frame: Any) -> None:
        name = self._instead or signal.Signals(number).name
        if name == "SIGINT" and name in self._received:
            os.write(2, b"\ninterrupted twice: ending at once, without a checkpoint\n")
            os._exit(128 + number)
        self._received.add(name)
        if self._raise:
            self._raise = False
            raise Stopped(name)


def own_stop_files() -> tuple[Path, ...]:
    """Return the file that asks this start alone to stop, if whoever started it named one.

    A job script and a sweep do: a file in the output folder would stop whichever job has that.
    """
    own = os.environ.get(OWN_STOP_FILE)
    return (Path(own),) if own else ()


def _is_there(file: Path) -> bool:
    """Return whether a file is seen; where the file system fails for a moment it is not."""
    try:
        return file.exists()
    except OSError:
        return False


def agreed(flags: list[float]) -> str:
    """Return the reason that counts, from the ranks' summed flags; empty where there is none."""
    return next((reason for reason, flag in zip(REASONS, flags, strict=True) if flag), "")


def exit_code() -> int:
    """Return the exit code of a run that stopped early and can go on.

    torchrun takes any code but 0 for a crash, and would start the ranks again.
    """
    return 0 if "TORCHELASTIC_RUN_ID" in os.environ else TO_BE_CONTINUED


def launchers() -> list[Any]:
    """Return the ancestors of this process that are deepspeed's or torchrun's, from psutil.

    The `deepspeed` command dies of SIGTERM and SIGUSR1 and torchrun of SIGUSR1 without a word to
    the ranks, so their death is one.
    """
    import psutil

    ancestors = []
    for process in psutil.Process().parents():
        try:
            if _program(process.cmdline()) in _LAUNCHERS:
                ancestors.append(process)
        except psutil.Error:
            continue
    return ancestors


def _program(arguments: list[str]) -> str:
    """Return what a command line runs: python's script or module, or the program itself."""
    rest = list(arguments)
    if rest and Path(rest[0]).name.startswith("python"):
        rest.pop(0)
        while rest and rest[0].startswith("-") and rest[0] != "-m":
            rest.pop(0)
        if rest and rest[0] == "-m":
            return rest[1] if len(rest) > 1 else ""
    return Path(rest[0]).name if rest else ""


def _dead(process: Any) -> bool:
    import psutil

    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_NUMBERS = {getattr(signal, name) for name in SIGNALS}


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)


def _forget_handlers() -> None:
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    _unblock()
