"""What identifies a dataset's images, for the same name and flags may mean other images tomorrow.

A study keeps a record of each dataset's fingerprints. `tfvae.studies.fingerprints`, which loads the images, writes it once, and
again when a file of the dataset has changed. The paths of all that a study makes of the images hold the record's key. So for
other images everything is made anew, beside what was made of the earlier ones.
"""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import time

from tfvae.command import write_whole

LOOK_AGAIN_SECONDS = 60  # many files on a slow disk take a while to look at
FORMAT = 1  # of records, and of the rule by which a split's fingerprint is made: under another one all are made anew


@dataclasses.dataclass(frozen=True)
class Data:
    """The images of one dataset at one resolution.

    Attributes:
        folder: where their files lie. stamp: `stamp_of` that folder when they were read.
        fingerprints: {split: SHA-256 (hex) of its pixels and labels}.
    """

    folder: str
    stamp: str
    fingerprints: dict

    @property
    def key(self):
        """Eight characters that change with any image or label."""
        return hashlib.sha256(json.dumps(self.fingerprints, sort_keys=True).encode()).hexdigest()[:8]


def stamp_of(folder):
    """SHA-256 (hex) of the names, sizes and times of a folder's image files, of all its files where none of them is an image.

    None where there is no such folder.
    It is cheap, and says only that files may have changed: fingerprints, which need the images themselves, say whether they have.
    """
    from tfvae.data.tree import EXTENSIONS  # here: it loads all of Pillow's formats

    folder = pathlib.Path(folder)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256(f"{FORMAT}\n".encode())
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name[0] != ".")
    for file in [file for file in files if file.suffix.lower() in EXTENSIONS] or files:
        state = file.stat()
        digest.update(f"{file.relative_to(folder)} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_json(file):
    """What a JSON file holds, or None where it is not there or cannot be read."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def write(file, data):
    write_whole(file, json.dumps(dataclasses.asdict(data), indent=1) + "\n")


def read(file):
    """The `Data` of a record, or None where there is none or where the files have changed since.

    The files are looked at once in a process, so that the paths of a study's results stay the same while it runs. Where their
    folder is not there, as on a machine that only reports, the record is taken as it is. See `is_current`.
    """
    data, stamp = _look(file, _time_of(file), 0)
    return data if data and stamp in (data.stamp, None) else None


def is_current(file):
    """Whether a record is there and its files are as they were when it was made, at most `LOOK_AGAIN_SECONDS` ago."""
    data, stamp = _look(file, _time_of(file), 1 + time.monotonic() // LOOK_AGAIN_SECONDS)
    return data is not None and stamp == data.stamp


def _time_of(file):
    return os.stat(file).st_mtime_ns if file.is_file() else None


@functools.cache
def _look(file, written, moment):
    """(`Data` of a record or None, stamp of its folder), looked at once for each time of the record's writing and each moment."""
    try:
        data = Data(**read_json(file))
    except TypeError:  # there is none, or another version wrote it
        return None, None
    return data, stamp_of(data.folder)
