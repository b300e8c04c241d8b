"""The versions in a model's folder: found, put in their place, deleted, and what was left unfinished removed.

A server looks at every folder with a number for a name, at any moment. So a version is written and verified under another
name and then renamed, and renamed before it is deleted: what a server sees is whole.
"""

import errno
import os
import shutil
from pathlib import Path

from tfvae import command
from tfvae.command import UserError


def numbered(export_dir):
    """`command.numbered_folders` of a model's folder, which need not exist."""
    return command.numbered_folders(export_dir) if Path(export_dir).is_dir() else {}


def no_folders(export_dir):
    """What lies among the versions, is no folder, and is called as a version: TF Serving tries to load it. List of paths."""
    children = Path(export_dir).iterdir() if Path(export_dir).is_dir() else []
    return [child for child in children if child.name.isascii() and child.name.isdigit() and not child.is_dir()]


def next_version(export_dir):
    """One more than the newest version of a model's folder, or the first number after that whose name nothing has.

    Raises:
        UserError: no server reads so large a number.
    """
    version = max(numbered(export_dir), default=0) + 1
    while os.path.lexists(Path(export_dir) / str(version)):
        version += 1
    if version > command.LARGEST_VERSION:
        raise UserError(
            f"{export_dir} holds version {command.LARGEST_VERSION}, and a server reads no larger number: give a free --version."
        )
    return version


def put_in_place(written, place):
    """Waits until a version is on the disk, and renames it.

    Args:
        written: folder of a verified version. place: where it goes, on the same file system.

    Raises:
        UserError: a version, or something else, is there by now.
    """
    for path in (*written.rglob("*"), written):
        synchronize(path)
    try:
        os.rename(written, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        what = "was published by another export meanwhile, and a version" if place.is_dir() else "is a file, which"
        raise UserError(f"{place} {what} is never replaced: run the command again.") from error
    synchronize(place.parent)


def synchronize(path):
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete(folder):
    """Deletes a version; it is renamed first, so that no part of it is ever served or published.

    What of it cannot be deleted then stays under a name that no server looks at. Raises: OSError: it cannot be renamed.
    """
    doomed = command.new_name(folder, "old")
    os.rename(folder, doomed)
    if doomed.is_symlink():
        doomed.unlink()
    else:
        shutil.rmtree(doomed, ignore_errors=True)


def delete_old(export_dir, keep, version):
    """Deletes all but the newest versions, one at a time.

    Args:
        export_dir: folder of the versions. keep: how many are left, 1 or more. version: one that stays in any case.

    Returns:
        dict of an old version's number to None, or to the reason why it could not be deleted.
    """
    there, done = numbered(export_dir), {}
    for number in sorted(there)[:-keep]:
        if number != version:
            try:
                delete(there[number])
                done[number] = None
            except OSError as error:
                done[number] = error.strerror
    return done


def remove_unfinished(export_dir):
    """Removes what exports and deletions that were killed left behind a day ago or longer."""
    # Earlier releases wrote under the version's and the process's number.
    command.remove_left_overs(export_dir, "[0-9]+", also=r"\.tmp-[0-9]+-[0-9]+")
