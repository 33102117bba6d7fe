"""Holds a folder for one job at a time, where file locks may reach no further than their node.

A holder is a file `.NAME-NUMBER` made with O_EXCL, which the file system itself decides: of two
jobs that want the same number one gets it. The highest number has the folder. The file says who
holds it and carries a count that grows while the holder lives. Nobody needs to clean up: a holder
that was killed is taken over, at once where its process can be looked for, else after its count has
stood still for a while by the watcher's own clock.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from train.errors import UserError
from train.system.lease_files import NAME, PATIENCE, Seen, lease_files, lease_path, newest
from train.system.processes import Holder, this_process

BEAT = 10.0  # seconds
SAME_JOB = 3  # times that patience for the earlier start of a requeued job to end
_POLL = 0.5


class LeaseTaken(UserError):
    """Another job holds the folder, and lives."""


class LeaseLost(UserError):
    """Another job has taken the folder over: this one must write nothing more there."""


class Lease:
    """The right to write below a folder.

    Args:
        folder: there already, or made by `take`.
        what: names the folder in messages: "output_dir: runs/x".
        way_out: ends the sentence that refuses a second job.
        wait: wait for a living holder to end instead of being refused.
        say: takes a line for a person who waits.
        beat: seconds between two counts.
        patience: seconds after which a count that stands still is a dead holder's.
        name: of the files; leases of two names know nothing of each other.
    """

    def __init__(
        self,
        folder: Path,
        what: str,
        way_out: str = "",
        wait: bool = False,
        say: Callable[[str], None] = print,
        beat: float = BEAT,
        patience: float = PATIENCE,
        name: str = NAME,
    ) -> None:
        self.holder = this_process()
        self.nonce = uuid.uuid4().hex[:12]
        self._folder = folder
        self._what = what
        self._way_out = way_out
        self._wait = wait
        self._say = say
        self._beat_seconds = beat
        self._patience = patience
        self._name = name
        self._number = 0
        self._count = 0
        self._lost = False
        self._over = threading.Event()

    @property
    def lost(self) -> bool:
        """True once it is known that another job has taken the folder over."""
        return self._lost

    @property
    def taken(self) -> bool:
        """True while this job holds the folder, as far as it knows."""
        return bool(self._number) and not self._lost

    def take(self) -> bool:
        """Take the folder; wait where it cannot be told yet whether its holder lives.

        Returns whether it had to wait.

        Raises:
            LeaseTaken: the holder lives.
            OSError: the folder cannot be written.
        """
        watch = _Watch(self._patience)
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                seen = newest(self._folder, self._name)
            except FileNotFoundError:
                continue  # its holder has moved or removed the folder
            if seen is None or self._is_free(seen, watch):
                if self._create(1 if seen is None else seen.number + 1):
                    threading.Thread(target=self._keep_alive, daemon=True).start()
                    return not watch.untouched
                continue
            time.sleep(min(_POLL, self._beat_seconds))

    def check(self) -> None:
        """Make sure that this job still holds the folder. Call it before anything is committed.

        Raises:
            LeaseLost: another has it.
            OSError: it cannot be told.
        """
        seen = newest(self._folder, self._name)
        holder = seen.holder if seen is not None else None
        if holder is not None and holder.nonce == self.nonce and not self._lost:
            return
        self._lost = True
        now = str(holder or "another job") if seen is not None else "nobody: its file is gone"
        raise LeaseLost(
            f"{self._what} was taken over while this job stood still; it is held by {now}. This "
            "job stops and has committed nothing since; the other goes on"
        )

    def release(self) -> None:
        """Give the folder back, so that the next job need not wait; a second call does nothing."""
        self._over.set()
        if self.taken:
            self._write(released=True)
        self._number = 0

    def _is_free(self, seen: Seen, watch: _Watch) -> bool:
        """Return whether the folder can be taken.

        Raises:
            LeaseTaken: its holder lives, and is not waited for.
        """
        if seen.released:
            return True
        holder = seen.holder
        alive = holder.alive_here() if holder is not None else None
        if alive is False or (holder is not None and holder.is_same_process(self.holder)):
            return True
        beats = watch.look(seen)
        same_job = holder is not None and bool(holder.job) and holder.job == self.holder.job
        bears = self._wait or (same_job and watch.watched <= SAME_JOB * self._patience)
        if (alive or beats) and not bears:
            raise LeaseTaken(f"{self._what} is held by {holder}; {self._way_out}")
        if watch.first_look:
            self._say(self._waiting_line(holder, alive))
        if not alive and watch.stood_still >= self._patience:
            self._say(f"{self._what}: no sign of {holder or 'its holder'} any more; taking over")
            return True
        return False

    def _waiting_line(self, holder: Holder | None, alive: bool | None) -> str:
        who = holder or "a job that has not said who it is"
        if alive:
            return f"{self._what} is held by {who}: waiting for its end"
        return (
            f"{self._what} is held by {who}: waiting for up to {self._patience:.0f} s to see "
            "whether it still lives"
        )

    def _create(self, number: int) -> bool:
        """Make the lease of this number; return False where another job was quicker."""
        path = self._path(number)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except (FileExistsError, FileNotFoundError):
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._content(released=False))
            file.flush()
            os.fsync(file.fileno())
        there = newest(self._folder, self._name)
        if there is None or there.number != number:  # numbers went on between look and make
            path.unlink(missing_ok=True)
            return False
        self._number = number
        for other, old in lease_files(self._folder, self._name):
            if other < number:
                old.unlink(missing_ok=True)
        return True

    def _path(self, number: int) -> Path:
        return lease_path(self._folder, self._name, number)

    def _content(self, released: bool) -> bytes:
        """Return the file's bytes, always as many: they are written over each other."""
        facts = asdict(self.holder) | {"nonce": self.nonce}
        facts |= {"count": f"{self._count:010d}", "released": "yes" if released else "no "}
        return (json.dumps(facts) + "\n").encode()

    def _write(self, released: bool) -> None:
        """Write the next count; an error of the file system is one count less."""
        self._count += 1
        try:
            # Without O_CREAT: a file that is gone was taken over, and stays gone.
            with self._path(self._number).open("r+b") as file:
                file.write(self._content(released))
                file.flush()
                os.fsync(file.fileno())
        except FileNotFoundError:
            self._lost = True
        except OSError:
            return

    def _keep_alive(self) -> None:
        while not self._over.wait(self._beat_seconds) and self.taken:
            self._write(released=False)


class _Watch:
    """Watches the count of a lease by this process's own clock: clocks of two hosts differ."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._began = time.monotonic()
        self._last: Seen | None = None
        self._changed = self._began
        self.first_look = True

    @property
    def untouched(self) -> bool:
        """True where there was nothing to watch."""
        return self._last is None

    @property
    def watched(self) -> float:
        """Seconds since the first look."""
        return time.monotonic() - self._began

    @property
    def stood_still(self) -> float:
        """Seconds since the count was seen to change."""
        return time.monotonic() - self._changed

    def look(self, seen: Seen) -> bool:
        """Take a look in, and return whether the same holder's count has grown since the last."""
        before = self._last
        self.first_look = before is None
        if before is not None and before.content == seen.content:
            return False
        self._last = seen
        self._changed = time.monotonic()
        return before is not None and before.number == seen.number
