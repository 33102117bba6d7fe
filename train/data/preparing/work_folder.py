"""Keeps a preparation in progress: a folder beside the final one that outlives a kill.

`.NAME.work` holds the files of the folder-to-be and state.json, which says how far they are good:
at which place of the corpus, at which length of every file. Going on cuts the files to those
lengths and reads from that place, so the result is the same to the bit.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

import numpy as np

from train.data.loading.memmap import (
    ENDS_DTYPE,
    META_NAME,
    QUARANTINE_NAME,
    Meta,
    read_meta,
)
from train.data.preparing.encode import Encoded
from train.data.preparing.state import FILES, State
from train.errors import UserError
from train.system.files import sync, write_atomically
from train.system.lease import Lease
from train.system.lease_files import remove_leases

STATE_NAME = "state.json"
SPOOL = "spool"  # what is encoded ahead of its turn


def documents_recorded(final: Path) -> int:
    """Return the documents that a preparation of `final` has written down, done or not."""
    try:
        if final.exists():
            meta = read_meta(final)
            return meta.train.documents + meta.validation.documents
    except (OSError, UserError):
        return 0
    state = recorded(final)
    return state.totals()[0] if state is not None else 0


def recorded(final: Path) -> State | None:
    """Return what a preparation of `final` has written down last; None where there is nothing."""
    try:
        return State.of(json.loads((work_folder(final) / STATE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def work_folder(final: Path) -> Path:
    """Return the folder in which `final` is made."""
    return final.with_name(f".{final.name}.work")


class WorkFolder:
    """The folder of one preparation, held by one process at a time; a context manager.

    Left by an error that another attempt can get past (a kill, a full disk, no network), it stays
    and `state` tells how far it is; left after `discard` it goes.

    Args:
        final: the folder to appear.
        say: takes lines for people.

    Attributes:
        folder: the temporary folder.
        state: how far it is; files are appended to through `append` and `quarantine` only.
        finished: whether another process finished it while this one waited.
    """

    def __init__(self, final: Path, say: Callable[[str], None]) -> None:
        self.final = final
        self.folder = work_folder(final)
        self.state = State()
        self.finished = False
        self._say = say
        self._lease = Lease(self.folder, f"the preparation of {final}", wait=True, say=say)
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> WorkFolder:
        try:
            self._lease.take()
            self.finished = self.final.exists()
            if self.finished:
                self.discard()
            else:
                shutil.rmtree(self.folder / SPOOL, ignore_errors=True)  # a kill may have left it
                self.state = self._earlier_state()
                self._files = {name: (self.folder / name).open("ab") for name in FILES}
                self._cut()
        except OSError as error:
            raise UserError(
                f"data.directory: {self.final.parent} cannot be written ({error.strerror}); mend "
                "it or choose another folder."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            with suppress(OSError):  # a full disk: what state.json vouches for is there
                file.close()
        self._lease.release()

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def append(self, encoded: Encoded) -> int:
        """Write and count a chunk's pieces, and return the tokens written.

        Raises:
            LeaseLost: another process goes on with this folder.
        """
        if self._lease.lost:
            self._lease.check()
        total = 0
        for split, piece in encoded.pieces.items():
            counts = self.state.counts[split]
            lengths = np.frombuffer(piece.lengths, ENDS_DTYPE)
            ends = counts.tokens + np.cumsum(lengths, dtype=ENDS_DTYPE)
            self._write(f"{split}.bin", piece.tokens)
            self._write(f"{split}.ends", ends.astype(ENDS_DTYPE).tobytes())
            total += int(ends[-1]) - counts.tokens
            counts.tokens = int(ends[-1])
            counts.documents += len(ends)
            counts.bytes += piece.bytes
        return total

    def quarantine(self, line: bytes) -> None:
        """Append to the list of rows set aside."""
        self._write(QUARANTINE_NAME, line)

    def begin_file(self, may_break: bool) -> None:
        """Remember this place, to which `back_to_file_start` returns.

        Args:
            may_break: whether the file may turn out to be broken.
        """
        self.state.file_start = None
        self.state.file_start = asdict(self.state)
        self.state.may_break = may_break

    def back_to_file_start(self) -> None:
        """Take back everything since `begin_file`."""
        assert self.state.file_start is not None
        records = self.state.records
        self.state = State.of(self.state.file_start)
        self.state.records = records
        self._cut()

    def flush(self) -> None:
        """Bring what was appended to the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def record(self) -> None:
        """Write down that everything up to here is done: a kill from now on costs none of it.

        Raises:
            LeaseLost: another process goes on with this folder.
            UserError: another process has written to its files.
        """
        self.flush()
        self._lease.check()
        self._check_sizes()
        self.state.records += 1
        write_atomically(self.folder / STATE_NAME, json.dumps(asdict(self.state)))

    def commit(self, meta: Meta) -> Path:
        """Flush everything to the disk and move the folder into place.

        If another process was first, its folder stays.
        """
        self.record()
        if not self.state.sizes[QUARANTINE_NAME]:
            (self.folder / QUARANTINE_NAME).unlink()
        (self.folder / META_NAME).write_text(
            json.dumps(asdict(meta), indent=2) + "\n", encoding="utf-8"
        )
        for path in [*self.folder.iterdir(), self.folder]:
            sync(path)
        self._lease.check()
        try:
            os.replace(self.folder, self.final)
        except OSError:
            if not self.final.is_dir():
                raise
            read_meta(self.final)  # complete, since it too came by a rename; else say so
            self.discard()
            return self.final
        (self.final / STATE_NAME).unlink(missing_ok=True)
        remove_leases(self.final)
        sync(self.final.parent)
        return self.final

    def _write(self, name: str, content: bytes) -> None:
        self._files[name].write(content)
        self.state.sizes[name] += len(content)

    def _check_sizes(self) -> None:
        """Find out whether somebody else has written to the files."""
        for name, file in self._files.items():
            size = os.fstat(file.fileno()).st_size
            if size != self.state.sizes[name]:
                raise UserError(
                    f"{self.folder / name} has {size} bytes where this process wrote "
                    f"{self.state.sizes[name]}: another one writes to it; end that, and the same "
                    "command goes on from what was recorded"
                )

    def _cut(self) -> None:
        for name, file in self._files.items():
            file.flush()
            file.truncate(self.state.sizes[name])

    def _earlier_state(self) -> State:
        """Return what an earlier attempt left, if it can be trusted."""
        try:
            state = State.of(json.loads((self.folder / STATE_NAME).read_text(encoding="utf-8")))
            short = [
                name for name in FILES if (self.folder / name).stat().st_size < state.sizes[name]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return State()
        if short:
            self._say(
                f"{self.folder / short[0]} is shorter than its state says; preparing from the start"
            )
            return State()
        return state
