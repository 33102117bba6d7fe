"""Runs a grid on this machine, some runs at a time.

Each is started as a user would start it, and asked to stop when the sweep is.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from train.errors import UserError
from train.experiments.grids.resolved_run import Planned
from train.experiments.sweeps.last_words import last_words
from train.experiments.sweeps.places import places
from train.experiments.sweeps.sweep_status import (
    JOB,
    KILLED,
    Queue,
    RunStatus,
    modified_ns,
    outcome,
    run_status,
    take_run,
)
from train.loop.run_status import write_state
from train.loop.stopping.signals import OWN_STOP_FILE, SIGNALS, TO_BE_CONTINUED
from train.system.lease import Lease
from train.system.provenance import ROOT

TORCHRUN = ROOT / "launch" / "torchrun.sh"
LOG = "sweep.log"
_POLL = 0.1  # seconds


@dataclass
class _Active:
    """A run whose process lives."""

    planned: Planned
    process: subprocess.Popen[bytes]
    lease: Lease
    slot: int
    began: float
    modified_ns: int
    log_start: int

    @property
    def folder(self) -> Path:
        return self.planned.run.folder

    @property
    def stop(self) -> Path:
        """The file that asks this start to stop, and no other job that may have the folder."""
        return stop_file(self.folder, self.lease)


class LocalSweep:
    """Starts what is missing, goes on with what was cut, leaves what failed.

    Args:
        runs: in the order in which they start.
        ranks: processes of a run; more than one by launch/torchrun.sh.
        jobs: runs at a time. Where there are GPUs, each has its own.
        retry_failed: start those again that failed in an earlier sweep.
        queue: what SLURM has.
        say: takes lines for the console.

    Raises:
        UserError: there are fewer GPUs than that.
    """

    def __init__(
        self,
        runs: Sequence[Planned],
        ranks: int,
        jobs: int,
        retry_failed: bool,
        queue: Queue,
        say: Callable[[str], None],
    ) -> None:
        self._waiting = deque(runs)
        self._ranks = ranks
        self._jobs = jobs
        self._retry = retry_failed
        self._queue = queue
        self._say = say
        self._places = places(ranks, jobs)
        if ranks > 1 and not TORCHRUN.is_file():
            raise UserError(
                f"--ranks {ranks} needs {TORCHRUN}, which is not installed with the package: run "
                "the sweep from the project"
            )
        self._active: list[_Active] = []
        self._asked = self._passed_on = 0
        self.outcomes: dict[str, RunStatus] = {}

    def run(self) -> int:
        """Run until the last has ended, or all have stopped.

        Exit code: 0 all finished, 75 some go on when started again, 1 some failed.
        """
        with self._listening():
            while self._active or (self._waiting and not self._asked):
                while self._waiting and len(self._active) < self._jobs and not self._asked:
                    self._try(self._waiting.popleft())
                self._pass_on()
                for active in list(self._active):
                    if active.process.poll() is not None:
                        self._end(active)
                time.sleep(_POLL if self._active else 0)
        states: set[str] = {outcome.state for outcome in self.outcomes.values()}
        if self._asked and (self._waiting or "stopped" in states):
            return TO_BE_CONTINUED
        killed = any(outcome.reason == KILLED for outcome in self.outcomes.values())
        if killed or "failed" in states:
            return 1
        return 0 if states <= {"finished"} else TO_BE_CONTINUED

    # --- a run's start and end --------------------------------------------------------------

    def _try(self, planned: Planned) -> None:
        """Start a run; one that cannot start stops no other, and leaves none alone."""
        try:
            self._start(planned)
        except (UserError, OSError) as error:
            self.outcomes[planned.run.label] = RunStatus("failed", reason=str(error))
            self._say(f"{planned.run.label}: cannot start: {error}")

    def _start(self, planned: Planned) -> None:
        """Start a run, unless there is nothing to do for it, or another does it."""
        folder = planned.run.folder
        lease = take_run(folder, self._say)
        if lease is None:
            self._leave(planned, RunStatus("running"))
            return
        now = run_status(folder, self._queue, ours=True)
        if self._leave(planned, now):
            lease.release()
            return
        try:
            self._launch(planned, lease)
        except BaseException:
            lease.release()
            raise
        again = ""
        if now.state == "stopped":
            again = f" again at step {now.step} ({now.reason})"
        elif now.state == "failed":
            again = f" again after: {now.reason}"
        self._say(f"{planned.run.label}: started{again}; output in {folder / LOG}")

    def _launch(self, planned: Planned, lease: Lease) -> None:
        """Start a run's program. It is asked to stop by a file of its own."""
        folder = planned.run.folder
        (folder / JOB).unlink(missing_ok=True)
        command = command_line(planned, self._ranks)
        slot = min(set(range(self._jobs)) - {active.slot for active in self._active})
        own_stop = {OWN_STOP_FILE: str(stop_file(folder, lease).absolute())}
        with (folder / LOG).open("ab") as log:
            log.write(f"=== {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(command)}\n".encode())
            log.flush()
            # A session of its own: Ctrl-C reaches it through us, and once.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | self._places[slot] | own_stop,
            )
            began = time.monotonic()
            start = (slot, began, modified_ns(folder), log.tell())
            self._active.append(_Active(planned, process, lease, *start))

    def _leave(self, planned: Planned, now: RunStatus) -> bool:
        """Note and tell how a run stands that is not to be started."""
        if now.state in ("missing", "stopped") or (now.state == "failed" and self._retry):
            return False
        self.outcomes[planned.run.label] = now
        if now.state == "failed":
            self._say(
                f"{planned.run.label}: failed in an earlier sweep ({now.reason}); --retry-failed "
                "starts it again"
            )
        elif now.state != "finished":
            self._say(
                f"{planned.run.label}: left to another, who has it: {now.state} "
                f"{now.reason}".rstrip()
            )
        return True

    def _end(self, active: _Active) -> None:
        self._active.remove(active)
        active.stop.unlink(missing_ok=True)
        label = active.planned.run.label
        end = self._judge(active)
        active.lease.release()
        self.outcomes[label] = end
        minutes = f"{(time.monotonic() - active.began) / 60:.1f} minutes"
        log = active.folder / LOG
        if end.state == "finished":
            found = outcome(active.folder) or "with no figure of merit"
            self._say(f"{label}: finished, {found}, {minutes}")
        elif end.state == "failed":
            self._say(f"{label}: failed after {minutes}: {end.reason}; see {log}")
        elif end.state == "running":
            self._say(f"{label}: left to another, who has it: {end.reason}; see {log}")
        else:
            self._say(f"{label}: stopped at step {end.step} ({end.reason}), {minutes}; see {log}")

    def _judge(self, active: _Active) -> RunStatus:
        """Return how a run ended, by what it wrote.

        One that ended before it wrote anything has failed, unless it was asked to end, or another
        program has the folder: then what state.json says is not about this one.
        """
        now = run_status(active.folder, self._queue, ours=True)
        begun = modified_ns(active.folder) != active.modified_ns
        log = active.folder / LOG
        reason = last_words(log, active.log_start, active.process.returncode)
        if now.state == "running":
            return RunStatus("running", now.step, reason)
        if begun:
            return now
        if self._asked:
            return RunStatus("stopped", now.step, "before it began")
        write_state(active.folder, "failed", reason=reason)
        return run_status(active.folder, self._queue, ours=True)

    # --- signals ----------------------------------------------------------------------------

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def note(_number: int, _frame: object) -> None:
            self._asked += 1

        signals = [getattr(signal, name) for name in SIGNALS]
        before = {each: signal.getsignal(each) for each in signals}
        for each, handler in before.items():
            if handler is not signal.SIG_IGN:  # nohup
                signal.signal(each, note)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _pass_on(self) -> None:
        """Pass the request to stop on to the runs. Once: they save and end. Twice: they end."""
        if self._asked == self._passed_on:
            return
        first = not self._passed_on
        self._passed_on = self._asked
        if first and self._active:
            self._say(
                f"asked to stop: waiting for {len(self._active)} to save and end; once more ends "
                "at once"
            )
        for active in self._active:
            if first and self._ranks > 1:
                # Not SIGTERM: torchrun kills ranks that need more than 30 s.
                active.stop.touch()
            elif first or self._ranks > 1:
                active.process.send_signal(signal.SIGTERM)
            else:
                active.process.send_signal(signal.SIGKILL)


def stop_file(folder: Path, lease: Lease) -> Path:
    """Return the file by which a sweep asks the one start to stop that it made with this lease."""
    return folder / f"stop.{lease.nonce}"


def command_line(planned: Planned, ranks: int) -> list[str]:
    """Return the command that starts a run."""
    return program_line(planned.arguments, ranks)


def program_line(arguments: Sequence[str], ranks: int) -> list[str]:
    """Return the command that starts train/pretrain.py on so many ranks."""
    if ranks == 1:
        return [sys.executable, str(ROOT / "train" / "pretrain.py"), *arguments]
    return [str(TORCHRUN), "--ranks", str(ranks), *arguments]
