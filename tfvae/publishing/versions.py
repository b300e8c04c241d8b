"""The versions in a model's folder: found, put in their place, deleted, and what was left unfinished removed.

A server looks at every folder with a number for a name, at any moment. So a version is written and verified under another
name and then renamed, and renamed before it is deleted: what a server sees is whole.
"""

import errno
import os
import re
import shutil
from pathlib import Path

from tfvae.command import UserError

UNFINISHED = re.compile(r"\.tmp-([0-9]+)-([0-9]+)")  # version and process


def numbered(export_dir):
    """The versions in a model's folder, as TF Serving finds them: every child whose name is a number.

    Args:
        export_dir: folder whose name is the model's. It need not exist.

    Returns:
        dict of number to path, ascending.
    """
    children = Path(export_dir).iterdir() if Path(export_dir).is_dir() else []
    return dict(sorted((int(child.name), child) for child in children if child.name.isascii() and child.name.isdigit()))


def unfinished(place):
    """Where this process writes the version of a folder before it is put there, and deletes it from."""
    return place.with_name(f".tmp-{place.name}-{os.getpid()}")


def put_in_place(written, place):
    """Waits until a version is on the disk, and renames it.

    Args:
        written: folder of a verified version. place: where it goes, on the same file system.

    Raises:
        UserError: a version is there by now.
    """
    for path in (*written.rglob("*"), written):
        synchronize(path)
    try:
        os.rename(written, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise UserError(
            f"{place} was published by another export meanwhile, and a version is never replaced: run the command again."
        ) from error
    synchronize(place.parent)


def synchronize(path):
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete(folder):
    """Deletes a version; it is renamed first, so that no part of it is ever served or published."""
    doomed = unfinished(folder)
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def delete_old(export_dir, keep, version):
    """Deletes all but the newest versions, one at a time.

    Args:
        export_dir: folder of the versions. keep: how many are left, 1 or more. version: one that stays in any case.

    Returns:
        list of the deleted versions' numbers.
    """
    there = numbered(export_dir)
    old = [number for number in sorted(there)[:-keep] if number != version]
    for number in old:
        delete(there[number])
    return old


def remove_unfinished(export_dir):
    """Removes what exports and deletions that were killed left behind; those of living processes stay."""
    for folder in export_dir.iterdir():
        match = UNFINISHED.fullmatch(folder.name)
        if match and not is_alive(int(match[2])):
            shutil.rmtree(folder)  # no server looks at such a name, so it may be seen half deleted


def is_alive(process):
    """Whether a process of this machine runs: not this one, whose number an older one had."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
