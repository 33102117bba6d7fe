"""Prepares a corpus in a process beside the run that already trains on its beginning.

The process is of low priority. Signals do not end it, for launchers and schedulers send them to all
processes of a job: it ends when the run asks it to or is gone, and then keeps what it has written
down and gives the folder back.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path

from train.config import DataConfig
from train.data.loading.memmap import FORMAT_VERSION, Meta, dtype_name, read_meta
from train.data.loading.partial import PartialCorpus
from train.data.preparing.prepare import prepare
from train.data.preparing.work_folder import recorded, work_folder
from train.data.tokenizers.load import AnyTokenizer, load_prepared
from train.errors import Stopped, UserError

NICENESS = 10
_END = 20.0  # seconds that it may take to end well
_LOOK = 1.0  # seconds between two looks whether the run is still there


class PreparationBeside:
    """A preparation in a process of its own on this machine.

    Args:
        config: the data section, without a mixture.
        vocab_size: pieces of the model's vocabulary.
        folder: the prepared folder that it makes.
    """

    def __init__(self, config: DataConfig, vocab_size: int, folder: Path) -> None:
        self.folder = folder
        self._tokenizer: AnyTokenizer | None = None
        self._outcome: str | None = None
        # Not fork: this process may hold a GPU, a process group and their threads.
        context = get_context("spawn")
        self._link, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(config, vocab_size, folder, theirs), name="preparation"
        )
        self._process.start()
        theirs.close()

    def failure(self) -> str:
        """Return why it goes on no more; empty while it works, and when it is done."""
        code = self._process.exitcode  # first: what it says, it says before it ends
        if self._outcome is None:
            with suppress(EOFError, OSError):
                if self._link.poll():
                    self._outcome = str(self._link.recv())
        if self._outcome is None and code is not None:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            self._outcome = f"the preparation's process was ended {how}"
        return self._outcome or ""

    def look(self) -> PartialCorpus | None:
        """Return what is there; None where that is nothing yet, or cannot be told just now."""
        try:
            if self.folder.exists():
                return PartialCorpus((self.folder,), read_meta(self.folder), True, True)
            return self._look_at_work()
        except (OSError, UserError):  # it was moved meanwhile
            return None

    def end(self) -> bool:
        """Have it end, and wait until it has; return whether it was still at work."""
        worked = self._process.is_alive()
        with suppress(OSError):
            self._link.send("end")
        self._process.join(_END)
        if self._process.is_alive():
            self._process.kill()  # its own processes end with it
            self._process.join()
        return worked

    def _look_at_work(self) -> PartialCorpus | None:
        work = work_folder(self.folder)
        state = recorded(self.folder)
        if state is None:
            return None
        if self._tokenizer is None:
            self._tokenizer = load_prepared(work)
        tokenizer = self._tokenizer
        counts = state.settled()
        meta = Meta(
            FORMAT_VERSION,
            dtype_name(tokenizer.size),
            tokenizer.size,
            tokenizer.eos_id,
            tokenizer.sha256,
            source="",
            fingerprint="",
            train=counts["train"],
            validation=counts["validation"],
        )
        return PartialCorpus((work, self.folder), meta, False, state.validation_is_settled())


def _work(config: DataConfig, vocab_size: int, folder: Path, link: Connection) -> None:
    """Prepare, and say at the end what went wrong; this is the process's job."""
    os.nice(NICENESS)
    asked = threading.Event()
    _take_signals(asked)
    threading.Thread(target=_watch, args=(link, os.getppid(), asked), daemon=True).start()
    outcome = ""
    try:
        prepare(config, vocab_size, _say, beside=folder)
    except Stopped:
        pass
    except UserError as error:
        outcome = f"{error}"
    except Exception as error:
        traceback.print_exc()
        outcome = f"{type(error).__name__}: {error}"
    with suppress(OSError):  # the run is gone
        link.send(outcome)


def _take_signals(asked: threading.Event) -> None:
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)

    def on_sigterm(*_: object) -> None:
        if asked.is_set():
            raise Stopped("the run has ended")

    signal.signal(signal.SIGTERM, on_sigterm)


def _watch(link: Connection, run: int, asked: threading.Event) -> None:
    """Interrupt the preparation once the run asks for it, or is gone."""
    parent = parent_process()
    assert parent is not None
    ends: list[Connection | int] = [link, int(parent.sentinel)]  # type: ignore[call-overload]
    while not connection.wait(ends, _LOOK) and os.getppid() == run:
        pass
    asked.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _say(line: str) -> None:
    with suppress(OSError):  # nobody reads it any more
        print(line, file=sys.stderr, flush=True)
