"""What the person at the console sees while it runs: a live bar on a terminal, plain lines elsewhere. For rank 0 alone.

Everything goes to standard output, so that a log file has it in order.
"""

from __future__ import annotations

import sys
import time
from typing import Literal, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from train.metrics import perplexity

Mode = Literal["auto", "bar", "lines", "off"]
SECONDS_BETWEEN_LINES = 2.0
SMOOTHING = 0.9  # one slow step (a refresh, a checkpoint) should not make the estimate jump


class Progress:
    """The silent one, and what all have in common: the count of steps and the estimate of the time left."""

    def start(self, total: int, initial: int = 0) -> None:
        """Begin; initial is the step already reached by the run gone on from."""
        self.total, self.step = total, initial
        self._last, self._pace = time.monotonic(), 0.0

    def train(self, step: int, loss: float, lr: float, tokens_per_second: float) -> None:
        """Report a training step."""
        now, done = time.monotonic(), step - self.step
        if done > 0:
            pace = (now - self._last) / done
            self._pace = SMOOTHING * self._pace + (1 - SMOOTHING) * pace if self._pace else pace
            self.step, self._last = step, now
        self._show(loss, lr, tokens_per_second)

    def validation(self, step: int, loss: float) -> None:
        """Report a validation."""
        self.message(f"step {step}: validation loss {loss:.4f}, perplexity {number(perplexity(loss))}")

    def refresh(self, step: int, seconds: float, n: int) -> None:
        """Report a refresh of n modules' decays."""
        self.message(f"step {step}: decays of {n} modules refreshed in {seconds:.2f} s")

    def message(self, text: str) -> None:
        """Print a line of text."""

    def close(self) -> None:
        """Leave the console in order; a second call does nothing."""

    def time_left(self) -> str:
        """Time to the last step at the present pace, as 1:02:03."""
        return clock(self._pace * (self.total - self.step)) if self._pace else "-:--"

    def _show(self, loss: float, lr: float, tokens_per_second: float) -> None: ...


class Lines(Progress):
    """Plain lines, at most one every two seconds, the first and the last step always."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream, self._shown = stream or sys.stdout, float("-inf")

    def message(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def _show(self, loss: float, lr: float, tokens_per_second: float) -> None:
        now = time.monotonic()
        if now - self._shown < SECONDS_BETWEEN_LINES and self.step < self.total:
            return
        self._shown = now
        step = f"step {self.step:>{len(str(self.total))}}/{self.total}"
        figures = f"loss {loss:.4f}  ppl {number(perplexity(loss))}  lr {lr:.2e}  {number(tokens_per_second)} tokens/s"
        self.message(f"{step}  {figures}  {self.time_left()} left")


class Bar(Progress):
    """A live bar at the foot of the terminal, with messages scrolling above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._bar: RichProgress | None = None

    def start(self, total: int, initial: int = 0) -> None:
        super().start(total, initial)
        figures = "loss [bold]{task.fields[loss]}[/] ppl [bold]{task.fields[ppl]}[/] {task.fields[speed]} tok/s {task.fields[left]} left"
        columns = (TextColumn("{task.completed}/{task.total}"), BarColumn(bar_width=None), TextColumn(figures))
        self._bar = RichProgress(*columns, console=self._console, expand=True, refresh_per_second=4)
        self._task = self._bar.add_task("", total=total, completed=initial, loss="-", ppl="-", speed="-", left="-:--")
        self._bar.start()

    def message(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, loss: float, lr: float, tokens_per_second: float) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=self.step,
                loss=f"{loss:.3f}",
                ppl=number(perplexity(loss)),
                speed=number(tokens_per_second),
                left=self.time_left(),
            )


def make_progress(mode: Mode, stream: TextIO | None = None) -> Progress:
    """The console for log.progress; auto asks whether the stream is a terminal."""
    stream = stream or sys.stdout
    if mode == "off":
        return Progress()
    if mode == "bar" or (mode == "auto" and stream.isatty()):
        return Bar(Console(file=stream, highlight=False, force_terminal=True if mode == "bar" else None))
    return Lines(stream)


def number(value: float) -> str:
    """Three or four figures a person takes in at a glance: 0.123, 45.6, 1,234, 12.3k, 4.56M, 7.89B."""
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if limit <= abs(value) < float("inf"):
            scaled = value / (1e3 if suffix == "k" else limit)
            return f"{scaled:.2f}{suffix}" if scaled < 10 else f"{scaled:.1f}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
