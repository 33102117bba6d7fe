"""Who this process is, by the variables that deepspeed, torchrun and launch/rank.sh set."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from train.errors import UserError

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
_START = "start with torchrun, deepspeed or launch/rank.sh"


def environment() -> tuple[int, int, int]:
    """Return (rank, local rank, world size); without a launcher there is one process.

    Raises:
        UserError: a variable that is missing or no number, or a world of which this process is no
            rank.
    """
    rank = _number("RANK", 0)
    local_rank = _number("LOCAL_RANK", 0)
    size = _number("WORLD_SIZE", 1)
    if "RANK" not in os.environ and size > 1:
        raise UserError(
            f"WORLD_SIZE is {size} and RANK is not set, so {size - 1} other ranks would be waited "
            f"for in vain; {_START}, or unset WORLD_SIZE"
        )
    if "RANK" in os.environ and "WORLD_SIZE" not in os.environ:
        raise UserError(
            f"RANK is {rank} and WORLD_SIZE is not set, so nobody knows of how many ranks; "
            f"{_START}, or unset RANK"
        )
    if rank >= size:
        raise UserError(
            f"RANK is {rank} and WORLD_SIZE is {size}; ranks count from 0 to WORLD_SIZE - 1"
        )
    if size > 1 and "LOCAL_RANK" not in os.environ:
        raise UserError(
            f"RANK is {rank}, WORLD_SIZE is {size} and LOCAL_RANK is not set, so the ranks of a "
            f"node would share one GPU; {_START}"
        )
    return rank, local_rank, size


def alone() -> bool:
    """Return whether this process is all there is, and no launcher says where ranks meet."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        return False
    return not all(name in os.environ for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))


def meeting_place() -> tuple[str, int]:
    """Return host and port of the place where the ranks meet.

    Raises:
        UserError: a variable that is missing, empty or no port.
    """
    host = os.environ.get("MASTER_ADDR", "")
    if not host.strip():
        raise UserError(
            f"MASTER_ADDR is {_said('MASTER_ADDR')}, so the ranks cannot meet; {_START}"
        )
    text = os.environ.get("MASTER_PORT", "")
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise UserError(
            f"MASTER_PORT is {_said('MASTER_PORT')}; it must be a port, from 1 to 65535; {_START}"
        )
    return host, int(text)


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


def _said(name: str) -> str:
    return repr(os.environ[name]) if name in os.environ else "not set"
