"""Tells scripts how a run stands. `python -m train state OUTPUT_DIR [KEY]` prints state.json.

It holds {"state", "step", "steps", "reason", "checkpoint", "prepared"}; state is running, stopped,
finished or failed; prepared counts the documents that are ready, where a stop came before that was
done. The exit code is 0 where the run is finished, 75 where it goes on if started again (stopped;
or running, which after the launcher's end means killed), else 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from alphadecay.inspect.run_folder import read_object
from train.config.run_folder import STATUS
from train.loop.stopping.signals import TO_BE_CONTINUED
from train.system.files import write_atomically
from train.system.lease_files import is_held
from train.system.patience import patiently

State = Literal["running", "stopped", "finished", "failed"]
_CODES = {"finished": 0, "stopped": TO_BE_CONTINUED, "running": TO_BE_CONTINUED}


def write_state(folder: Path, state: State, **facts: Any) -> None:
    """Replace state.json in one move. Facts that are not given stay as they were.

    A file system that does not take it is told and stops no run: the file is for scripts alone.

    Args:
        facts: step, steps, reason, checkpoint, prepared.
    """
    try:
        _write(folder, state, facts)
    except OSError as error:
        print(
            f"warning: {folder / STATUS} does not say {state!r}: {error.strerror or error}",
            file=sys.stderr,
            flush=True,
        )


def note_refusal(folder: Path, reason: str, held: bool) -> None:
    """Have state.json say failed where a start is refused, so that no script starts it for ever.

    What a finished run left stays as it is, and what is another job's.

    Args:
        reason: why it was refused.
        held: whether this job alone writes into the folder.
    """
    if not held and is_held(folder):
        return
    known = read_state(folder).get("state")
    if known == "stopped" or (held and known != "finished"):
        write_state(folder, "failed", reason=reason)


def _write(folder: Path, state: State, facts: Mapping[str, Any]) -> None:
    defaults = {"step": 0, "steps": None, "reason": "", "checkpoint": None, "prepared": 0}
    known = defaults | read_state(folder) | {"state": state, **facts}
    written = {key: known[key] for key in ("state", *defaults)}
    write_atomically(folder / STATUS, json.dumps(written, indent=1) + "\n")


def note_checkpoint(folder: Path, step: int, path: Path) -> None:
    """Say how far a run is once that is safe: what comes after may never be written."""
    write_state(folder, "running", step=step, checkpoint=str(path))


def read_state(folder: Path) -> dict[str, Any]:
    """Return what state.json says, or nothing where there is none to be read."""
    return read_object(folder / STATUS)


def _read(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _read_patiently(folder: Path) -> dict[str, Any]:
    """Return what state.json says: a job script asks once whether the run goes on."""

    def say(line: str) -> None:
        print(f"warning: {line}", file=sys.stderr, flush=True)

    try:
        return patiently(lambda: _read(folder), say)
    except OSError as error:
        say(f"{folder / STATUS}: {error.strerror}")
        return {}


def main(arguments: list[str]) -> int:
    """Print the state, or the value of the key named; unknown where there is none."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    state = _read_patiently(Path(arguments[0]))
    value = state.get(arguments[1] if len(arguments) == 2 else "state")
    print("unknown" if value is None else value)
    return _CODES.get(str(state.get("state")), 1)
