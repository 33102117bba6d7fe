"""One rank of the program up to its first step, with the seconds of each part of its start.

    python startup_rank.py CHECKOUT OUT [arguments of train/pretrain.py]

The program is that of CHECKOUT, which may be another than this file's. It ends after the first
step: OUT gets a file named after the rank.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Part -> the function whose calls it is. One called within another's time counts in its own alone.
PARTS = {
    "process_group": "train.cluster.distributed:start",
    "data": "train.tasks.language_modelling.task:prepare_together",
    "engine": "train.loop.build:build_engine",
    "model": "train.engines.deepspeed:build_model",
    "first_refresh": "train.loop.build:build_decay",
    "evaluation": "train.tasks.language_modelling.task:evaluate",
}


class Parts:
    """Sums wall and process seconds by part; the time of an inner part is taken off the outer's."""

    def __init__(self) -> None:
        self.seconds = {name: {"wall": 0.0, "process": 0.0} for name in PARTS}
        self._open: list[str] = []
        self._since = (0.0, 0.0)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time counted for `name`."""

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._open.append(name)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._open.pop()

        return wrapper

    def _switch(self) -> None:
        """Count the time since the last switch for the innermost part that is open."""
        now = (time.time(), time.process_time())
        if self._open:
            part = self.seconds[self._open[-1]]
            part["wall"] += now[0] - self._since[0]
            part["process"] += now[1] - self._since[1]
        self._since = now


def main() -> None:
    """Run the program, and write what its start took."""
    checkout, out, *arguments = sys.argv[1:]
    # pretrain.py puts its folder's parent first; here it is a module, and this file's comes off
    sys.path[0] = checkout
    os.chdir(checkout)
    sys.argv = ["train/pretrain.py", *arguments]
    from train import pretrain

    run = pretrain._run
    pretrain._run = functools.partial(_run, run, Path(out))
    sys.exit(pretrain.main())


def _run(run: Callable[..., int], out: Path, *arguments: Any) -> int:
    """Do what pretrain does, its parts timed.

    What it imports first is imported here already.
    """
    import train.loop.build
    import train.reporting.finish  # noqa: F401
    from train.telemetry.telemetry import Telemetry

    imported = {"wall": _since_command(), "process": time.process_time()}
    parts = Parts()
    for name, place in PARTS.items():
        module_name, _, function = place.partition(":")
        module = sys.modules.get(module_name) or __import__(module_name, fromlist=[function])
        setattr(module, function, parts.timed(name, getattr(module, function)))
    told = Telemetry.train

    def first_step(self: Any, *args: Any, **kwargs: Any) -> None:
        told(self, *args, **kwargs)
        whole = {"wall": _since_command(), "process": time.process_time()}
        figures = {"until_imported": imported, **parts.seconds, "whole": whole}
        (out / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(figures))
        os._exit(0)

    Telemetry.train = first_step  # type: ignore[method-assign]
    return run(*arguments)


def _since_command() -> float:
    return time.time() - float(os.environ["STARTUP_BENCH_BEGAN"])


if __name__ == "__main__":
    main()
