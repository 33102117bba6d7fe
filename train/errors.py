"""The one exception that means: the user can mend this; show the message, not a traceback."""


class UserError(Exception):
    """A mistake in configuration, data or environment. The message says what, where and what to do."""
