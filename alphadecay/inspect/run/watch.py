"""Follows a run until its end: on a terminal a picture that stands still, elsewhere lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.follow import Follower, News
from alphadecay.inspect.run.reader import SCORES, Run, read_config
from alphadecay.inspect.run.watch_text import Snapshot, end_line, refresh_line, snapshot_lines
from alphadecay.inspect.run_folder import CONFIG, METRICS, STATUS, read_object

ENDS = ("finished", "stopped", "failed")


class Display(Protocol):
    """What shows a run as it goes on."""

    def show(self, shot: Snapshot, news: News) -> None:
        """Take in what is new."""

    def close(self) -> None:
        """Leave the terminal in order."""


class Lines:
    """A line for each refresh, and one where the run goes back.

    Args:
        say: takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def show(self, shot: Snapshot, news: News) -> None:
        if news.gone:
            self._say(f"the run went on from step {news.step:,}; what came after is done again")
        for record in news.records:
            if record["kind"] == "refresh":
                self._say(refresh_line(record, shot.score))

    def close(self) -> None:
        pass


class Picture:
    """The last refresh and how the run stands, in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(highlight=False), auto_refresh=False)
        self._live.start()

    def show(self, shot: Snapshot, news: News) -> None:
        from rich.text import Text

        self._live.update(Text("\n".join(snapshot_lines(shot))), refresh=True)

    def close(self) -> None:
        self._live.stop()


def watch(
    folder: Path,
    display: Display,
    wait: Callable[[], None],
    *,
    once: bool = False,
) -> Snapshot:
    """Show a run until it ends, and return how it ended.

    Args:
        folder: of the run, which may not have begun.
        wait: is called between two looks.
        once: look once.

    Raises:
        InspectError: no such folder, or what lies there cannot be read.
    """
    if not folder.is_dir():
        raise InspectError(
            f"{folder}: no such folder; name the output_dir of a run, such as runs/quickstart"
        )
    if once and not (folder / METRICS).is_file():
        raise InspectError(f"{folder} has no {METRICS}: no run has begun there")
    follower = Follower(folder / METRICS)
    shot: Snapshot | None = None
    try:
        while True:
            # before the lines: a run writes its last line and then its end
            state = str(read_object(folder / STATUS).get("state") or "")
            news = follower.look()
            if shot is None or news.records or news.gone or state != shot.state:
                shot = _snapshot(folder, state, follower)
                display.show(shot, news)
            if once or state in ENDS:
                return shot
            wait()
    finally:
        display.close()


def _snapshot(folder: Path, state: str, follower: Follower) -> Snapshot:
    text, config = read_config(folder / CONFIG)
    run = Run(folder, follower.records, {}, {}, text, config, {})
    steps = run.setting("run", "steps")
    return Snapshot(
        name=run.name,
        method=run.method,
        score=SCORES.get(run.method, "alpha"),
        state=state,
        steps=steps if isinstance(steps, int) else None,
        records=follower.records,
    )


def watch_here(folder: Path, seconds: float, once: bool) -> int:
    """Watch a run on standard output; return 1 where it failed."""
    if once:
        shot = watch(folder, Lines(lambda text: None), lambda: None, once=True)
        print("\n".join(snapshot_lines(shot)))
        return int(shot.state == "failed")
    if folder.is_dir() and not (folder / METRICS).is_file():
        said = f"{folder} has no {METRICS} as yet: waiting for a run to begin; Ctrl-C leaves"
        print(said, file=sys.stderr)
    display: Display = Picture() if sys.stdout.isatty() else Lines(_flushed)
    try:
        shot = watch(folder, display, lambda: time.sleep(seconds))
        _flushed(end_line(shot))
    except KeyboardInterrupt:  # the way to leave a run that goes on
        return 0
    return int(shot.state == "failed")


def _flushed(text: str) -> None:
    print(text, flush=True)
