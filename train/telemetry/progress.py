"""Shows a person at the console how a run goes: a bar on a terminal, plain lines elsewhere.

It is for rank 0 alone. Everything goes to standard output, so that a log file has it in order.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from alphadecay.inspect.run.metrics import perplexity
from alphadecay.inspect.run.words import clock, number_or_dash

Mode = Literal["auto", "bar", "lines", "off"]
SECONDS_BETWEEN_LINES = 2.0
SMOOTHING = 0.9  # one slow step (a refresh, a checkpoint) should not make the estimate jump


class Progress:
    """The silent display, and what all have in common: the step and the time left."""

    of_text = True  # else the exponential of a loss says nothing

    def start(self, total: int, initial: int = 0) -> None:
        """Begin; `initial` is the step already reached by the run gone on from."""
        self.total = total
        self.step = initial
        self._last = time.monotonic()
        self._pace = 0.0

    def advance(self, step: int, once: float = 0.0) -> None:
        """Note that a training step is done.

        Args:
            once: seconds of it that no later step will take.
        """
        now = time.monotonic()
        done = step - self.step
        if done > 0:
            pace = max(now - self._last - once, 0.0) / done
            self._pace = SMOOTHING * self._pace + (1 - SMOOTHING) * pace if self._pace else pace
            self.step = step
            self._last = now

    def log(self, record: Mapping[str, Any]) -> None:
        """Show a record of metrics.jsonl."""
        step = record["step"]
        if record["kind"] == "train":
            self._show(record)
        elif record["kind"] == "validation":
            loss = number_or_dash(record["val_loss"], "{:.4f}")
            figure = record["figure"]
            shown = number_or_dash(record[figure["name"]])
            self.message(f"step {step}: validation loss {loss}, {figure['label']} {shown}")
        elif record["kind"] == "refresh":
            modules = len(record["weight_decays"])
            seconds = record["refresh_seconds"]
            self.message(f"step {step}: decays of {modules} modules refreshed in {seconds:.2f} s")
        elif record["kind"] == "notice":
            self.message(f"step {step}: {record['notice']}")

    def message(self, text: str) -> None:
        """Print a line of text."""

    def close(self) -> None:
        """Leave the console in order; a second call does nothing."""

    def time_left(self) -> str:
        """Return the time to the last step at the present pace, as 1:02:03."""
        return clock(self._pace * (self.total - self.step)) if self._pace else "-:--"

    def _show(self, record: Mapping[str, Any]) -> None: ...


class Lines(Progress):
    """Plain lines, at most one every two seconds, the first and the last step always."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._shown = float("-inf")

    def message(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def _show(self, record: Mapping[str, Any]) -> None:
        now = time.monotonic()
        step = record["step"]
        if now - self._shown < SECONDS_BETWEEN_LINES and step < self.total:
            return
        self._shown = now
        text = _figures(record)
        lr = number_or_dash(record["lr"], "{:.2e}")
        ppl = f"ppl {text['ppl']}  " if self.of_text else ""
        mfu = f"  mfu {text['mfu']}" if record.get("mfu") is not None else ""
        self.message(
            f"step {step:>{len(str(self.total))}}/{self.total}  loss {text['loss']}  "
            f"{ppl}lr {lr}  {text['speed']} tokens/s{mfu}  {self.time_left()} left"
        )


class Bar(Progress):
    """A live bar at the foot of the terminal, with messages scrolling above it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._bar: RichProgress | None = None

    def start(self, total: int, initial: int = 0) -> None:
        super().start(total, initial)
        names = (
            "loss [bold]{task.fields[loss]}[/]",
            *(["ppl [bold]{task.fields[ppl]}[/]"] if self.of_text else []),
            "{task.fields[speed]} tok/s",
            "mfu {task.fields[mfu]}",
        )
        figures = " ".join((*names, "{task.fields[left]} left"))
        columns = (
            TextColumn("{task.completed}/{task.total}"),
            BarColumn(bar_width=None),
            TextColumn(figures),
        )
        self._bar = RichProgress(*columns, console=self._console, expand=True, refresh_per_second=4)
        self._task = self._bar.add_task(
            "", total=total, completed=initial, loss="-", ppl="-", speed="-", mfu="-", left="-:--"
        )
        self._bar.start()

    def message(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, step: int, once: float = 0.0) -> None:
        super().advance(step, once)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.step, left=self.time_left())

    def _show(self, record: Mapping[str, Any]) -> None:
        if self._bar is not None:
            fields: dict[str, Any] = _figures(record)
            self._bar.update(self._task, completed=self.step, left=self.time_left(), **fields)


def make_progress(mode: Mode, stream: TextIO | None = None) -> Progress:
    """Return the console for log.progress; auto asks whether the stream is a terminal."""
    stream = stream or sys.stdout
    if mode == "off":
        return Progress()
    if mode == "bar" or (mode == "auto" and stream.isatty()):
        forced = True if mode == "bar" else None
        return Bar(Console(file=stream, highlight=False, force_terminal=forced))
    return Lines(stream)


def _figures(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of a training line as text; one that was not finite is a dash."""
    loss = record["loss"]
    return {
        "loss": number_or_dash(loss, "{:.4f}"),
        "ppl": number_or_dash(None if loss is None else perplexity(loss)),
        "speed": number_or_dash(record.get("tokens_per_second")),
        "mfu": number_or_dash(record.get("mfu"), "{:.1%}"),
    }
