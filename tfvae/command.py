"""How every command starts and ends: one-line errors, nothing overwritten, files written whole; no TensorFlow."""

import contextlib
import os
import pathlib
import re
import sys
import uuid

from absl import app, flags, logging


class UserError(Exception):
    """A mistake of the user's: one line that says what was wrong, what was expected and how to mend it."""


@contextlib.contextmanager
def user_errors():
    """Turns what constructors and loaders raise for bad arguments and missing files into a `UserError`."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(" ".join(str(error).split())) from error


_rest = None  # what is left of the command line after its flags, once `start` has read them


def start(name, check=None):
    """Reads the command line and then loads TensorFlow, where a module runs as a command; else does nothing.

    To be called after a command's flags and before its imports of TensorFlow, which take seconds: --help and a wrong flag are
    answered at once.

    Args:
        name: the module's `__name__`. check: function without arguments that raises a ValueError, UserError or OSError for values
            of flags that no run can have; ends the command with its line.
    """
    global _rest
    if name != "__main__":
        return
    app.define_help_flags()
    _rest = app.parse_flags_with_usage(sys.argv)
    if check is not None:
        try:
            with user_errors():
                check()
        except UserError as error:
            sys.exit(f"error: {error}")
    with without_notes_of_libraries():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def without_notes_of_libraries():
    """While TensorFlow loads, its C++ parts print what they found of CUDA and oneDNN, whatever their log level is.

    So stderr goes nowhere for that time; a Python exception is still shown. Set TF_CPP_MIN_LOG_LEVEL to see everything.
    """
    if "TFVAE_SET_LOG_LEVEL" not in os.environ:  # see tfvae/__init__.py
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run_command(main):
    """Runs a command's `main(argv)` under absl; a `UserError` becomes one line on stderr and exit code 1."""

    def guarded(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Unexpected argument {argv[1]!r}: every option starts with --.")
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)  # the libraries' progress notes are not the user's
        try:
            main(argv)
        except KeyboardInterrupt:
            sys.exit("Stopped.")
        except Exception as error:
            line = user_line(error)
            if line is None:
                raise
            sys.exit(f"error: {line}")

    app.run(guarded, flags_parser=app.parse_flags_with_usage if _rest is None else lambda argv: _rest)


def user_line(error):
    """What to tell the user of an exception, or None if it is a fault of the program."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return f"the disk is full ({text[:200]}). What was saved before is whole: free some space and run the command again."
    if "DataError: " in text:
        # Raised while images were read inside tf.data, which wraps it.
        return text.split("DataError: ")[1].split(" Traceback")[0][:400]
    return None


def duration(seconds):
    """3725 -> '1h 02m', 61 -> '1m 01s'."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {seconds:02d}s"


# Paths, and what lies there.


def path(flag, value):
    """The path that a flag gives, as people write it: `~` at its beginning is expanded, a URL is refused.

    Args:
        flag: the flag's name without dashes. value: what was given, str or path.

    Returns:
        pathlib.Path.

    Raises:
        UserError: a URL, or the home folder of somebody who is not known.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", str(value), re.IGNORECASE):
        raise UserError(
            f"--{flag}={value}: URLs are neither read nor written: expected a path on a disk of this machine."
        )
    try:
        return pathlib.Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{flag}={value}: that home folder is not known: expected the whole path.") from error


@contextlib.contextmanager
def literal(folder):
    """Yields a path to a folder that TensorFlow reads as it is written.

    Where TensorFlow restores checkpoints and loads SavedModels it takes brackets and backslashes in a path for patterns, and
    finds nothing; where it saves them it does not. Such a folder is reached through its file descriptor.

    Args:
        folder: one that exists.

    Returns:
        pathlib.Path, which holds as long as the block.

    Raises:
        OSError: the folder cannot be opened.
    """
    folder = pathlib.Path(folder)
    if not re.search(r"[][*?\\]", str(folder)):
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield pathlib.Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def write_whole(path, content):
    """Writes a file that is either whole or not there: beside its place first, then renamed.

    Safe for several processes, on one machine or on several that share a disk: each writes under a name of its own, and the
    last rename stays.

    Args:
        path: file to write; its folder is made if absent.
        content: str, bytes, or a function of a binary stream that writes it.

    Raises:
        OSError: the file cannot be written; what was at `path` is untouched.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with beside.open("xb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def refuse_to_overwrite(paths, flag, overwrite=False):
    """Raises a UserError if something is at any of `paths` and may not be replaced.

    Args:
        paths: what the command is about to write. flag: the name of the flag that chooses another place, such as "output".
        overwrite: value of --overwrite.
    """
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        raise UserError(f"{there[0]} exists: give another --{flag}, or --overwrite to replace it.")
