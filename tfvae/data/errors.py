"""The exception that everything in this folder raises for bad input."""


class DataError(ValueError):
    """A mistake in what the user gave (name, folder, archive, size): one line that says how to mend it.

    A type of its own, so that a command prints the line alone for these and a traceback for faults of the program.
    """
