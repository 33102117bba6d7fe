"""Tries again where a file system fails for a moment, as shared ones do."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSES = (2.0, 10.0, 30.0, 60.0)  # seconds before each further try
# What a server that restarts, fails over or is out of reach gives its clients.
MAY_PASS = (
    errno.EAGAIN,
    errno.EIO,
    errno.EREMOTEIO,
    errno.ESHUTDOWN,
    errno.ESTALE,
    errno.ETIMEDOUT,
)


def patiently(action: Callable[[], T], say: Callable[[str], None] = print) -> T:
    """Return the action's result; where the file system fails, try again after growing pauses.

    For what a start cannot do without. What runs beside the training must not wait.

    Args:
        action: may be called several times.
        say: takes a line ahead of each pause.

    Raises:
        OSError: the last try failed; or another would not help.
    """
    for pause in PAUSES:
        try:
            return action()
        except OSError as error:
            if error.errno not in MAY_PASS:
                raise
            say(f"{error}; trying again in {pause:.0f} s")
            time.sleep(pause)
    return action()
