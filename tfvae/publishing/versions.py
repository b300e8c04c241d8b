"""The versions in a model's folder: put in their place, deleted, and what was left unfinished removed."""

import errno
import os
import re
import shutil

from tfvae.command import UserError
from tfvae.publishing import published

UNFINISHED = re.compile(r"\.tmp-([0-9]+)-([0-9]+)")  # version and process; also what is being deleted


def put_in_place(unfinished, place):
    """Waits until a version is on the disk, and renames it.

    Args:
        unfinished: folder of a verified version. place: where it goes, on the same file system.

    Raises:
        UserError: a version is there by now.
    """
    for path in (*unfinished.rglob("*"), unfinished):
        synchronize(path)
    try:
        os.rename(unfinished, place)
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


def delete(folder, version):
    """Deletes a folder of this version's; it is renamed first, so that no part of it is ever served or published."""
    doomed = folder.parent / f".tmp-{version}-{os.getpid()}"
    os.rename(folder, doomed)
    shutil.rmtree(doomed)


def delete_old(export_dir, keep, version):
    """Deletes all but the newest versions, one at a time.

    Args:
        export_dir: folder of the versions. keep: how many are left, 1 or more. version: one that stays in any case.

    Returns:
        list of the deleted versions' numbers.
    """
    versions = published.versions(export_dir)
    old = [number for number in sorted(versions)[:-keep] if number != version]
    for number in old:
        delete(versions[number], number)
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
