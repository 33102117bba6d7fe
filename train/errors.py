"""The exceptions that show a message and no traceback: the user can mend this, or asked for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from alphadecay.inspect.errors import InspectError

EXIT_USER_ERROR = 2

T = TypeVar("T")


class UserError(Exception):
    """A mistake in configuration, data or environment, or several that are told at once.

    Args:
        problems: each says what, where and what to do.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return "\n  ".join([f"{len(self.problems)} problems:", *self.problems])


class Stopped(Exception):
    """The run was asked to stop where there is nothing to finish and nothing to save.

    The message is one of train.loop.stopping.signals.REASONS.
    """


class Problems:
    """Mistakes that are collected, so that all of them are told at once."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._keys: set[str] = set()

    def add(self, problem: str, *keys: str) -> None:
        """Note a mistake once, and the settings whose values it leaves in doubt."""
        if problem not in self.found:
            self.found.append(problem)
        self._keys.update(keys)

    def in_doubt(self, *keys: str) -> bool:
        """Return whether one of these settings was part of a mistake."""
        return not self._keys.isdisjoint(keys)

    def attempt(self, action: Callable[[], T]) -> T | None:
        """Return the action's result; note what a UserError says, and return None."""
        try:
            return action()
        except UserError as error:
            for problem in error.problems:
                self.add(problem)
            return None

    def raise_any(self) -> None:
        """Raise one UserError of all mistakes, if there are any."""
        if self.found:
            raise UserError(*self.found)


def as_command(work: Callable[[], int | None]) -> int:
    """Run a command and return its exit code; a user's mistake is a message on stderr."""
    try:
        return work() or 0
    except (UserError, InspectError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
