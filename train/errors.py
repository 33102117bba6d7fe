"""The exceptions that show a message and no traceback: the user can mend this, or asked for it."""


class UserError(Exception):
    """A mistake in configuration, data or environment. The message says what, where and what to do."""


class Stopped(Exception):
    """Asked to stop where there is nothing to finish and nothing to save. The message is one of train.stopping.signals.REASONS."""
