"""Cases, and the runner that takes them in turn until the budget is spent."""

from __future__ import annotations

import gc
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch

from train.cluster.distributed import World
from train.system.out_of_memory import is_out_of_memory

Figures = dict[str, Any]
# A case may take this many times its estimate, and at least so many seconds, before it is cut off.
PATIENCE = 3.0
LEAST_PATIENCE = 20.0
SPARE = 5.0  # seconds of the budget that are left for the table and the way out


@dataclass(frozen=True)
class Session:
    """What every case has.

    Args:
        world: the one rank of this process.
        toy: small models, for a rehearsal.
        folder: for data and runs; it may be thrown away.
        corpus: text for the runs that need more than the quickstart's; None where there is none.
    """

    world: World
    toy: bool
    folder: Path
    corpus: Path | None = None

    @property
    def device(self) -> torch.device:
        """Where the cases compute."""
        return self.world.device

    @property
    def cuda(self) -> bool:
        """True on a GPU."""
        return self.device.type == "cuda"

    def now(self) -> float:
        """Return the time, once the device has done what was asked of it."""
        if self.cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


@dataclass(frozen=True)
class Case:
    """One measurement.

    Args:
        part: what it belongs to; a table has a row for each case of a part.
        name: of the case, alone in its part.
        estimate: seconds on an H100; it begins only if so many are left.
        run: measures. A figure "ok" says whether something that must hold does.
    """

    part: str
    name: str
    estimate: float
    run: Callable[[Session], Figures]


class CutOffError(Exception):
    """Raised within a case that takes too long."""


@dataclass(frozen=True)
class Budget:
    """Seconds that there are, from a moment on.

    Args:
        seconds: in all.
        began: by time.monotonic.
    """

    seconds: float
    began: float

    @property
    def used(self) -> float:
        """Seconds gone."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds that a case may still take."""
        return self.seconds - self.used - SPARE


def run_cases(
    cases: Sequence[Case], session: Session, budget: Budget, write: Callable[[Figures], None]
) -> Figures:
    """Run the cases in order, and return part -> case -> figures.

    A case for which the budget is too small is left out and named; a smaller one after it may run.

    Args:
        write: called after each case with what there is.
    """
    parts: Figures = {}
    for case in cases:
        part = parts.setdefault(case.part, {})
        if budget.left < case.estimate:
            left = f"{max(0.0, budget.left):.0f} s were left, and it takes about {case.estimate:g}"
            part[case.name] = {"left_out": left}
        else:
            part[case.name] = run_case(case, session, _limit(case, session, budget))
        print(
            f"{budget.used:6.1f} s  {case.part} {case.name}: {brief(part[case.name])}", flush=True
        )
        write(parts)
    return parts


def _limit(case: Case, session: Session, budget: Budget) -> float:
    """Return the seconds after which a case is cut off; a rehearsal's estimates say nothing."""
    if session.toy:
        return budget.left
    return min(budget.left, max(LEAST_PATIENCE, PATIENCE * case.estimate))


def run_case(case: Case, session: Session, limit: float) -> Figures:
    """Run one case, and return its figures or why there are none, and the seconds it took."""
    if session.cuda:
        torch.cuda.reset_peak_memory_stats(session.device)
    started = time.monotonic()
    try:
        with cut_off_after(limit):
            figures = case.run(session)
    except CutOffError:
        figures = {"cut_off": f"not done within {limit:.0f} s"}
    except Exception as error:  # whatever it is, the next case must go on
        figures = {"out_of_memory": f"{error}".split("\n")[0]}
        if not is_out_of_memory(error):
            traceback.print_exc(file=sys.stderr)
            figures = {"failed": f"{type(error).__name__}: {error}"[:500]}
    _free(session)
    if session.cuda:
        figures["left_allocated"] = torch.cuda.memory_allocated(session.device)
    return figures | {"seconds": time.monotonic() - started}


@contextmanager
def cut_off_after(seconds: float) -> Iterator[None]:
    """Raise CutOffError within, so many seconds later: between two steps of the interpreter."""

    def cut(number: int, frame: FrameType | None) -> NoReturn:
        raise CutOffError

    before = signal.signal(signal.SIGALRM, cut)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _free(session: Session) -> None:
    """Give memory back, so that a case finds what the first one found."""
    gc.collect()
    # What was compiled for one model would make the next a recompilation, with dynamic shapes.
    torch.compiler.reset()
    if session.cuda:
        torch.cuda.empty_cache()


def brief(figures: Figures) -> str:
    """Return the figures on one line, those that are numbers or words."""
    words = []
    for name, value in figures.items():
        if isinstance(value, float):
            words.append(f"{name} {value:.4g}")
        elif isinstance(value, str | int | bool):
            words.append(f"{name} {value}")
    return ", ".join(words)


def is_right(parts: Figures) -> bool:
    """Return whether everything that must hold did, as far as it was looked at."""
    cases = [case for part in parts.values() for case in part.values()]
    return all(case.get("ok", True) and "failed" not in case for case in cases)
