"""The runs of a grid on this machine: some at a time, each started as a user would start it, and
asked to stop when the sweep is.
"""

from __future__ import annotations

import os
import re
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
from typing import IO

from train.config.run_folder import STOP
from train.errors import UserError
from train.experiments.grids.resolved_run import Planned
from train.experiments.sweeps.run_standing import (
    JOB,
    KILLED,
    Queue,
    Standing,
    acquire_lock,
    modified_ns,
    perplexity,
    standing,
)
from train.loop.run_status import write_state
from train.loop.stopping.signals import SIGNALS, TO_BE_CONTINUED
from train.system.cpu_count import cpu_count
from train.system.device import gpu_installed
from train.system.provenance import ROOT
from train.telemetry.progress import number

TORCHRUN = ROOT / "launch" / "torchrun.sh"
LOG = "sweep.log"
_POLL = 0.1  # seconds
# as the last line of a traceback, which torchrun writes more after
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")


@dataclass
class _Active:
    """A run whose process lives."""

    planned: Planned
    process: subprocess.Popen[bytes]
    lock: IO[bytes]
    slot: int
    began: float
    modified_ns: int
    log_start: int

    @property
    def folder(self) -> Path:
        return self.planned.run.folder


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
        self._places = _places(ranks, jobs)
        if ranks > 1 and not TORCHRUN.is_file():
            raise UserError(
                f"--ranks {ranks} needs {TORCHRUN}, which is not installed with the package: run "
                "the sweep from the project"
            )
        self._active: list[_Active] = []
        self._asked = self._passed_on = 0
        self.outcomes: dict[str, Standing] = {}

    def run(self) -> int:
        """Until the last has ended, or all have stopped.

        Exit code: 0 all finished, 75 some go on when started again, 1 some failed.
        """
        with self._listening():
            while self._active or (self._waiting and not self._asked):
                while self._waiting and len(self._active) < self._jobs and not self._asked:
                    self._try(self._waiting.popleft())
                self._pass_on()
                for active in [
                    active for active in self._active if active.process.poll() is not None
                ]:
                    self._end(active)
                time.sleep(_POLL if self._active else 0)
        states: set[str] = {outcome.state for outcome in self.outcomes.values()}
        if self._asked and (self._waiting or "stopped" in states):
            return TO_BE_CONTINUED
        if "failed" in states or any(
            outcome.reason == KILLED for outcome in self.outcomes.values()
        ):
            return 1
        return 0 if states <= {"finished"} else TO_BE_CONTINUED

    # --- a run's start and end
    # ---------------------------------------------------------------------------------------------

    def _try(self, planned: Planned) -> None:
        """One that cannot even start does not stop the others, nor leave those that run alone."""
        try:
            self._start(planned)
        except (UserError, OSError) as error:
            self.outcomes[planned.run.label] = Standing("failed", reason=str(error))
            self._say(f"{planned.run.label}: cannot start: {error}")

    def _start(self, planned: Planned) -> None:
        """Unless there is nothing to do for it, or another does it."""
        folder = planned.run.folder
        lock = acquire_lock(folder)
        if lock is None:
            self._leave(planned, Standing("running"))
            return
        now = standing(folder, self._queue, ours=True)
        if self._leave(planned, now):
            lock.close()
            return
        # of a start that was killed before it could obey
        (folder / STOP).unlink(missing_ok=True)
        (folder / JOB).unlink(missing_ok=True)
        command = command_line(planned, self._ranks)
        slot = next(
            slot
            for slot in range(self._jobs)
            if slot not in [active.slot for active in self._active]
        )
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
                pass_fds=(lock.fileno(),),
                env=os.environ | self._places[slot],
            )
            self._active.append(
                _Active(
                    planned, process, lock, slot, time.monotonic(), modified_ns(folder), log.tell()
                )
            )
        how = {
            "stopped": f" again at step {now.step} ({now.reason})",
            "failed": f" again after: {now.reason}",
        }.get(now.state, "")
        self._say(f"{planned.run.label}: started{how}; output in {folder / LOG}")

    def _leave(self, planned: Planned, now: Standing) -> bool:
        """Notes and tells how a run stands that is not to be started."""
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
        active.lock.close()
        outcome = self.outcomes[active.planned.run.label] = self._judge(active)
        minutes = f"{(time.monotonic() - active.began) / 60:.1f} minutes"
        log = active.folder / LOG
        if outcome.state == "finished":
            value = perplexity(active.folder)
            self._say(
                f"{active.planned.run.label}: finished, perplexity "
                f"{'unknown' if value is None else number(value)}, {minutes}"
            )
        elif outcome.state == "failed":
            self._say(
                f"{active.planned.run.label}: failed after {minutes}: {outcome.reason}; see {log}"
            )
        else:
            self._say(
                f"{active.planned.run.label}: stopped at step {outcome.step} ({outcome.reason}), "
                f"{minutes}; see {log}"
            )

    def _judge(self, active: _Active) -> Standing:
        """By what the run wrote; one that ended before it wrote anything has failed, unless it was
        asked to end.
        """
        now = standing(active.folder, self._queue, ours=True)
        begun = modified_ns(active.folder) != active.modified_ns
        if begun:
            return now
        if self._asked:
            return Standing("stopped", now.step, "before it began")
        write_state(
            active.folder,
            "failed",
            reason=_last_words(active.folder / LOG, active.log_start, active.process.returncode),
        )
        return standing(active.folder, self._queue, ours=True)

    # --- signals
    # ---------------------------------------------------------------------------------------------

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def note(_number: int, _frame: object) -> None:
            self._asked += 1

        before = {
            which: signal.getsignal(which) for which in (getattr(signal, name) for name in SIGNALS)
        }
        for which, handler in before.items():
            if handler is not signal.SIG_IGN:  # nohup
                signal.signal(which, note)
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def _pass_on(self) -> None:
        """To the runs. Once: they save and end. Twice: they end."""
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
                (active.folder / STOP).touch()
            else:
                active.process.send_signal(
                    signal.SIGTERM if first or self._ranks > 1 else signal.SIGKILL
                )


def command_line(planned: Planned, ranks: int) -> list[str]:
    """What starts a run."""
    if ranks == 1:
        return [sys.executable, str(ROOT / "train" / "pretrain.py"), *planned.arguments]
    return [str(TORCHRUN), "--ranks", str(ranks), *planned.arguments]


def _places(ranks: int, jobs: int) -> list[dict[str, str]]:
    """For each of the runs at a time, the variables that keep it off the others' GPUs and cores."""
    common = {"PYTHON": sys.executable, "PYTHONUNBUFFERED": "1"}
    if jobs == 1:
        return [common]
    gpus = _gpus()
    if not gpus:
        threads = max(1, cpu_count() // (jobs * ranks))
        return [
            common | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
        ] * jobs
    if len(gpus) < jobs * ranks:
        fits = f"--jobs {len(gpus) // ranks}" if len(gpus) >= ranks else f"--ranks {len(gpus)}"
        raise UserError(
            f"--jobs {jobs} runs of {ranks} ranks need {jobs * ranks} GPUs, and there are "
            f"{len(gpus)}; {fits} fits"
        )
    return [
        common | {"CUDA_VISIBLE_DEVICES": ",".join(gpus[slot * ranks : (slot + 1) * ranks])}
        for slot in range(jobs)
    ]


def _gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        return []
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    if not gpu_installed():
        return []
    import torch  # not above: a sweep on CPUs need not wait for it

    return [str(gpu) for gpu in range(torch.cuda.device_count())]


def _last_words(log: Path, start: int, code: int) -> str:
    """The last error or exception that a run printed, else its last line."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [
            line.strip()
            for line in file.read().decode(errors="replace").splitlines()
            if line.strip()
        ]
    errors = [line for line in lines if line.startswith("error: ")] or [
        line for line in lines if _EXCEPTION.match(line)
    ]
    return (errors or lines or [f"it ended with {code} and said nothing"])[-1]
