"""The exceptions that show a message and no traceback: the user can mend this, or asked for it."""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2


class UserError(Exception):
    """A mistake in configuration, data or environment. The message says what, where and what to do."""


class Stopped(Exception):
    """Asked to stop where there is nothing to finish and nothing to save.

    The message is one of train.loop.stopping.signals.REASONS.
    """


def as_command(work: Callable[[], int | None]) -> int:
    """Runs a command and returns its exit code; a user's mistake is one message on stderr, not a
    traceback.
    """
    try:
        return work() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
