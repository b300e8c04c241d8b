"""Zip files of images, read where they lie: what is in cats.zip has paths such as cats.zip/00000/a.png."""

import functools
import io
import os
import pathlib
import zipfile

from tfvae.data.errors import DataError


def is_zip(path):
    """Whether a path is that of a zip file, whose name ends in .zip."""
    return _may_be_zip(pathlib.Path(path)) and zipfile.is_zipfile(path)


def names(path):
    """The names of all files in a zip file. Raises: DataError: it is damaged."""
    try:
        return [name for name in _archive(path).namelist() if not name.endswith("/")]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read ({error}): expected a whole zip file") from error


def is_file(path):
    """Whether there is a file at a path, on the disk or in a zip file."""
    archive = _archive_above(path)
    return os.path.isfile(path) if archive is None else _member(path, archive) in _archive(archive).NameToInfo


def opened(file):
    """What reads a file: the path itself, or a stream of what a zip file holds. file: str, path or stream."""
    if not isinstance(file, (str, os.PathLike)):
        return file
    archive = _archive_above(file)
    return file if archive is None else io.BytesIO(_archive(archive).read(_member(file, archive)))


def read(path):
    """The bytes of a file, on the disk or in a zip file. Raises: OSError; BadZipFile, which is a ValueError here."""
    archive = _archive_above(path)
    if archive is None:
        return pathlib.Path(path).read_bytes()
    try:
        return _archive(archive).read(_member(path, archive))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{error}: expected a whole zip file without a password") from error


def _archive_above(path):
    """The zip file that a path leads into, or None."""
    return next((one for one in pathlib.Path(path).parents if _may_be_zip(one)), None)


def _may_be_zip(path):
    return path.suffix.lower() == ".zip" and path.is_file()


def _member(path, archive):
    return pathlib.Path(path).relative_to(archive).as_posix()


def _archive(path):
    state = os.stat(path)
    return _opened(str(path), state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=8)
def _opened(path, *_):
    # The list of its contents is read once; several threads may read from it.
    return zipfile.ZipFile(path)
