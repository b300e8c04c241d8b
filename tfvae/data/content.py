"""What identifies encoded images, wherever they lie: their names and the SHA-256 of their bytes.

Checksums are kept on the disk by path, size and times, so that each file is read only once for it.
"""

import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import time

import tqdm

from tfvae.command import write_whole

# A file that has just been written may be written again without another time or size.
SETTLED_SECONDS = 2


def cache_dir():
    """Where what was computed once is kept unless somebody says otherwise: ~/.cache/tfvae, or below XDG_CACHE_HOME.

    None where no home folder is known, as for a container's user without a name.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(home):  # as the XDG specification says
        try:
            home = pathlib.Path("~/.cache").expanduser()
        except RuntimeError:
            return None
    return pathlib.Path(home) / "tfvae"


def fingerprint(folder, files):
    """SHA-256 (hex) of the names and bytes of files, in the order of their names.

    Args:
        folder: where they lie; where that is has no influence.
        files: {name: path}; a name is str or bytes.

    Raises:
        OSError: one cannot be read.
    """
    names = sorted(files, key=os.fsencode)
    digest = hashlib.sha256()
    for name, checksum in zip(names, checksums(folder, [files[name] for name in names])):
        digest.update(os.fsencode(name) + b"\0" + checksum.encode() + b"\n")
    return digest.hexdigest()


def checksums(folder, paths):
    """The SHA-256 (hex) of each file, read only where it has changed since the last time.

    Args:
        folder: whose files' checksums are kept together. paths: list of str or path.
    """
    kept_in, kept = _kept(folder)
    paths = [os.path.abspath(path) for path in paths]
    states = {path: os.stat(path) for path in paths}
    # The time of the last change of its name or place too: two files of one size and time may have changed places.
    known = {path: [state.st_size, state.st_mtime_ns, state.st_ctime_ns] for path, state in states.items()}
    found = {path: kept[path][-1] for path in states if kept.get(path, [])[:-1] == known[path]}
    missing = [path for path in states if path not in found]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = pool.map(checksum_of, missing)
        found |= zip(missing, tqdm.tqdm(made, "checksums of the images", len(missing), leave=False, disable=None))
    settled = time.time() - SETTLED_SECONDS
    new = {path: [*known[path], found[path]] for path in missing if states[path].st_ctime < settled}
    if new:
        _keep(kept_in, {path: entry for path, entry in kept.items() if os.path.exists(path)} | new)
    return [found[path] for path in paths]


def checksum_of(path):
    """SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _kept(folder):
    """(file, {path: [size, times in ns, SHA-256]}): empty where nothing is kept, or where it is not what was written."""
    kept_in = cache_dir()
    if kept_in is None:
        return None, {}
    file = kept_in / f"checksums_{hashlib.sha256(os.fsencode(os.path.abspath(folder))).hexdigest()[:32]}.json"
    try:
        checksum, _, text = file.read_text().partition("\n")
        return file, json.loads(text) if checksum == hashlib.sha256(text.encode()).hexdigest() else {}
    except (OSError, ValueError):
        return file, {}


def _keep(file, entries):
    text = json.dumps(entries, indent=0)
    try:
        if file is None:
            raise OSError("no home folder is known; XDG_CACHE_HOME names another place")
        write_whole(file, f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
    except OSError as error:
        where = "" if file is None else f" in {file.parent}"
        warn_once(
            f"checksums of the images are not kept{where} ({error.strerror or error}): each command reads all files for them."
        )


@functools.cache  # so that each line is printed once
def warn_once(line):
    print(f"warning: {line}", flush=True)
