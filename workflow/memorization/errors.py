"""The one exception whose text is meant for the user's eyes."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and how to mend it. Shown without a traceback."""
