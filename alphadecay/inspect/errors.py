"""What the user of a command can mend."""

from __future__ import annotations


class InspectError(ValueError):
    """What was given cannot be used; the message says what it is and what to do.

    The command prints it as one line and exits with 2.
    """
