"""Who this process is, by the variables that deepspeed, torchrun and launch/rank.sh set."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from train.errors import UserError

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


def environment() -> tuple[int, int, int]:
    """Return (rank, local rank, world size); without a launcher there is one process.

    Raises:
        UserError: a variable that is no number, or a world of which this process is no rank.
    """
    rank = _number("RANK", 0)
    local_rank = _number("LOCAL_RANK", 0)
    size = _number("WORLD_SIZE", 1)
    if "RANK" not in os.environ and size > 1:
        raise UserError(
            f"WORLD_SIZE is {size} and RANK is not set, so {size - 1} other ranks would be waited "
            "for in vain; start with torchrun, deepspeed or launch/rank.sh, or unset WORLD_SIZE"
        )
    if rank >= size:
        raise UserError(
            f"RANK is {rank} and WORLD_SIZE is {size}; ranks count from 0 to WORLD_SIZE - 1"
        )
    return rank, local_rank, size


def tell_launcher(message: str) -> None:
    """Have torchrun end its own report with the message.

    It prints a traceback of itself after whatever its ranks have printed; the message at its end is
    what a rank wrote to the file that it names. Nothing happens under other launchers.
    """
    path = os.environ.get(_ERROR_FILE)
    if not path:
        return
    facts = {"py_callstack": message, "timestamp": str(int(time.time()))}
    try:
        Path(path).write_text(json.dumps({"message": {"message": message, "extraInfo": facts}}))
    except OSError:
        return  # the message was printed already


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"the environment variable {name} is {text!r}; it must be a whole number")
    return int(text)
