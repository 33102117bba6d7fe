"""state.json: how a run stands, for scripts. `python -m train state OUTPUT_DIR [KEY]` prints it.

It says {"state", "step", "steps", "reason", "checkpoint"}; state is running, stopped, finished or
failed. The exit code is 0 where the run is finished, 75 where it goes on if started again (stopped;
or running, which after the launcher's end means killed), else 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

from train.config.run_folder import STATUS
from train.loop.stopping.signals import TO_BE_CONTINUED
from train.system.files import write_atomically

State = Literal["running", "stopped", "finished", "failed"]
_CODES = {"finished": 0, "stopped": TO_BE_CONTINUED, "running": TO_BE_CONTINUED}


def write_state(folder: Path, state: State, **facts: Any) -> None:
    """Replaces state.json in one move. Facts that are not given stay as they were.

    Args:
        facts: step, steps, reason, checkpoint.
    """
    known = (
        {"step": 0, "steps": None, "reason": "", "checkpoint": None}
        | read_state(folder)
        | {"state": state, **facts}
    )
    order = ("state", "step", "steps", "reason", "checkpoint")
    write_atomically(
        folder / STATUS, json.dumps({key: known[key] for key in order}, indent=1) + "\n"
    )


def read_state(folder: Path) -> dict[str, Any]:
    """What state.json says; empty where there is none to be read."""
    try:
        found = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def main(arguments: list[str]) -> int:
    """Prints the state, or the value of the key named; unknown where there is none."""
    if len(arguments) not in (1, 2) or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 0 if arguments in (["--help"], ["-h"]) else 2
    found = read_state(Path(arguments[0]))
    value = found.get(arguments[1] if len(arguments) == 2 else "state")
    print("unknown" if value is None else value)
    return _CODES.get(str(found.get("state")), 1)
