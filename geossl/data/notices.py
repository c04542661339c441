"""The kind of warning about a user's data; in a module that imports nothing."""

__all__ = ["DataWarning"]


class DataWarning(UserWarning):
    """Images look wrong as they are read; the message says what to do."""
