"""How every command starts and ends: one-line errors, nothing overwritten, files written whole; no TensorFlow."""

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
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
        if disk_is_full(error):
            raise  # `user_line` has more to say
        raise UserError(" ".join(str(error).split())) from error


LARGEST_VERSION = 2**63 - 1  # that TF Serving reads

_rest = None  # what is left of the command line after its flags, once `start` has read them


def start(name, check=None):
    """Reads the command line and then loads TensorFlow, where a module runs as a command; when merely imported, does nothing.

    To be called after a command's flags and before its imports of TensorFlow, which take seconds: --help and a wrong flag are
    answered at once.

    Args:
        name: the module's `__name__`. check: function without arguments that raises a ValueError, UserError or OSError for values
            of flags that no run can have; ends the command with its line.
    """
    global _rest
    if name not in (
        "__main__",
        "__mp_main__",
    ):  # the second is a command's module in a process that the command spawned
        return
    if name == "__main__":
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
    """What to tell the user about an exception, or None if it is a fault of the program."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if disk_is_full(error):
        return f"no space is left ({text[-200:]}). What was saved before is whole: free some space and run the command again."
    if "DataError: " in text:
        # Raised while images were read inside tf.data, which wraps it.
        return text.split("DataError: ")[1].split(" Traceback")[0][:400]
    return None


def disk_is_full(error):
    """Whether an exception, of Python's or of TensorFlow's, says that a disk or the user's part of it is full."""
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


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
    if re.match(r"[a-z][a-z0-9+.-]*:/{1,2}", str(value), re.IGNORECASE):
        raise UserError(
            f"--{flag}={value}: URLs are neither read nor written: expected a path on a disk of this machine."
        )
    try:
        return pathlib.Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{flag}={value}: that home folder is not known: expected the whole path.") from error


def is_pattern(path):
    """Whether TensorFlow may take a path for a pattern."""
    return bool(re.search(r"[][*?\\]", str(pathlib.Path(path).absolute())))


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
    if not is_pattern(folder):
        yield folder
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield pathlib.Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def numbered_folders(folder):
    """The versions in a model's folder, as TF Serving reads their names: folders called by an int64.

    Returns:
        {number: path}, ascending.

    Raises:
        OSError: the folder cannot be read.
    """
    children = [
        child for child in pathlib.Path(folder).iterdir() if re.fullmatch("[0-9]+", child.name) and child.is_dir()
    ]
    return dict(sorted((int(child.name), child) for child in children if int(child.name) <= LARGEST_VERSION))


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
    beside = new_name(path, "tmp")
    try:
        with beside.open("xb") as stream:
            _lock(stream.fileno())
            if callable(content):
                content(stream)
            else:
                stream.write(content.encode() if isinstance(content, str) else content)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replace_folder(folder, flag, foreign):
    """Yields an empty folder beside `folder`. When the block has ended well, it takes the place of what is there, by rename.

    Where anything fails, what is there stays. A folder cannot be replaced at once: the old one steps aside first, and is
    deleted when the new one is there.

    Args:
        folder, flag, foreign: as `check_replaceable`'s.

    Raises:
        UserError: what is there may not be replaced, at the start or at the end. OSError: it cannot be.
    """
    place = pathlib.Path(os.path.realpath(folder))  # a link stays, and leads to the new folder
    aside = [old for old in _left_overs(place.parent, re.escape(_short(place.name)), "old") if not _is_locked(old.path)]
    if aside and not place.exists():
        # A process was killed between its two renames.
        os.rename(max(aside, key=lambda entry: entry.stat().st_mtime), place)
    check_replaceable(folder, flag, foreign, overwrite=True)
    remove_left_overs(place.parent, re.escape(_short(place.name)))
    old = new_name(place, "old")
    with contextlib.ExitStack() as stack:
        beside = stack.enter_context(folder_beside(place))
        yield beside
        check_replaceable(folder, flag, foreign, overwrite=True)
        if place.exists():
            stack.enter_context(_locked(place))
            os.rename(place, old)
        try:
            os.rename(beside, place)
        except OSError:
            if old.exists():
                os.rename(old, place)
            raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def folder_beside(place):
    """Yields a new empty folder beside `place`, to be renamed there; at the end, what is still under its first name is deleted.

    No other process has that name, on whatever machine, and `remove_left_overs` lets it be as long as the block lasts.

    Raises:
        OSError: it cannot be made.
    """
    folder = new_name(place, "tmp")
    folder.mkdir(parents=True)
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor):
    """Marks an open file or folder as in use until it is closed, where the disk has locks; the age counts too."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_locked(path):
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def new_name(path, ending):
    """A path in the same folder that no other process has, on whatever machine, and that `remove_left_overs` knows."""
    return path.with_name(f".{_short(path.name)}.{uuid.uuid4().hex}.{ending}")


def _short(name):
    """So much of a name that what `new_name` adds does not make it too long for a disk, which takes 255 bytes."""
    return name.encode(errors="replace")[:200].decode(errors="ignore")


def _left_overs(folder, name, endings="tmp|old"):
    """What `new_name` named in a folder, as os.DirEntry. name: regular expression of what was to be made."""
    return _entries(folder, rf"\.{name}\.[0-9a-f]{{32}}\.({endings})")


def _entries(folder, pattern):
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if re.fullmatch(pattern, entry.name)]
    except OSError:
        return []


def remove_left_overs(folder, name, seconds=86_400, also=None):
    """Deletes what processes that were killed have left of `write_whole`, `replace_folder` and `folder_beside`.

    Judged by age and by a lock, for whoever is still writing may be on another machine.

    Args:
        folder: where to look. name: regular expression of the names of what was to be written.
        seconds: the age from which on nobody is writing any more. also: regular expression of other names for left-overs.
    """
    for entry in _left_overs(folder, name) + (_entries(folder, also) if also else []):
        with contextlib.suppress(OSError):  # tidying up is no reason to fail
            if time.time() - entry.stat(follow_symlinks=False).st_mtime < seconds or _is_locked(entry.path):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)


def check_writable(path, flag):
    """Raises a UserError unless something can be made at `path`: to be called before the work whose result goes there.

    Args:
        path: the file or folder; what lies there is replaced by rename, so that its own mode does not count.
        flag: the name of the flag that chooses another place, such as "output".
    """
    place = pathlib.Path(path).absolute()
    try:
        folder = next((parent for parent in place.parents if os.path.lexists(parent)), place)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for part in place.relative_to(folder).parts:
            with contextlib.suppress(FileNotFoundError):
                os.lstat(folder / part)  # fails for a name that the disk cannot have
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give another --{flag}.") from error


def refuse_to_overwrite(paths, flag, overwrite=False):
    """Raises a UserError if a file cannot be written at any of `paths`, or if one is there that may not be replaced.

    Args:
        paths: what the command is about to write. flag: the name of the flag that chooses another place, such as "output".
        overwrite: value of --overwrite.
    """
    for path in paths:
        if os.path.isdir(path):
            raise UserError(f"{path} is a folder: expected a file; give another --{flag}.")
        if os.path.exists(path) and not os.path.isfile(path):
            raise UserError(f"{path} is no regular file: give another --{flag}.")
        check_writable(path, flag)
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        raise UserError(f"{there[0]} exists: give another --{flag}, or --overwrite to replace it.")


def check_replaceable(folder, flag, foreign, overwrite=False):
    """Raises a UserError unless a folder can be put at `folder`, in the place of an empty one or of one of ours.

    Args:
        folder: its place. flag: the name of the flag that chooses another one.
        foreign: function of a folder -> set of the names in it that are not ours; all of them where it is another one's.
        overwrite: whether one of ours may be replaced.
    """
    folder = pathlib.Path(folder)
    check_writable(os.path.realpath(folder) if os.path.islink(folder) else folder, flag)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give another --{flag}.")
    if os.path.ismount(folder):
        raise UserError(
            f"{folder} is where a disk is mounted, which cannot be replaced: expected a folder in it as --{flag}."
        )
    names = sorted(foreign(folder))
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UserError(
            f"{folder} holds {', '.join(names[:3])}{more}, which this command did not write and will not delete: move that "
            f"elsewhere, or give another --{flag}."
        )
    if any(folder.iterdir()) and not overwrite:
        raise UserError(f"{folder} exists: give another --{flag}, or --overwrite to replace it.")
