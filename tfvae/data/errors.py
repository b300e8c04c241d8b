"""The one exception of this folder."""


class DataError(ValueError):
    """A mistake in what the user gave (name, folder, archive, size), as one line that says how to mend it.

    Its own type, so that a command can print the line alone and keep the traceback for real faults.
    """
