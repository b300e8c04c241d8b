"""Which images lie below a folder, or in a zip file, and what was left out: hidden files, files of other kinds, dead links."""

import collections
import os

from PIL import Image

from tfvae.data import zipped
from tfvae.data.errors import DataError

# Pillow knows these by name and cannot decode them, or needs another program for it.
_NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}


def _extensions():
    known = Image.registered_extensions()
    opened = {ending for ending, name in known.items() if name in Image.OPEN and name not in _NOT_DECODED}
    return frozenset(opened | {".mpo"})  # which Pillow opens as the JPEG that it begins with


EXTENSIONS = _extensions()

# What operating systems, servers and tools put into folders of images, in small letters; and all that begins with a dot.
_SYSTEM_FOLDERS = {
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "@tmp",
    "@__thumb",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__macosx",
    "__pycache__",
}
_SHOWN = 3  # names of what was left out


class Folder:
    """A folder: its path, the images in it, its sub-folders by name, those with images; `count` of images in it and below."""

    def __init__(self, path, files, folders):
        self.path, self.files, self.folders = path, files, folders
        self.full = [folder for folder in folders if folder.count]
        self.count = len(files) + sum(folder.count for folder in self.full)

    @property
    def holds_classes(self):
        """Whether its sub-folders are classes: more than one, and beside them no more images than one has on average."""
        return len(self.full) > 1 and len(self.files) * len(self.full) <= self.count - len(self.files)

    def all_files(self):
        yield from self.files
        for folder in self.full:
            yield from folder.all_files()


class LeftOut:
    """Collects what is not taken: {reason: names}, endings of files that are no images; and the links that were followed."""

    def __init__(self):
        self.names, self.endings, self.followed = {}, collections.Counter(), []

    def add(self, reason, *names):
        if names:
            self.names.setdefault(reason, []).extend(names)

    def take_back(self, ending):
        """One file of this ending is of use after all."""
        self.endings[ending] -= 1

    @property
    def text(self):
        parts = [_counted(reason, names) for reason, names in self.names.items()]
        if number := self.endings.total():
            found = sorted((+self.endings).items(), key=lambda pair: (not pair[0], -pair[1], pair[0]))
            listed = [f"{n:,} {ending or 'without ending'}" for ending, n in found[:10]]
            more = ["…"] if len(found) > 10 else []
            kind = "file of another kind" if number == 1 else "files of other kinds"
            parts.append(f"{number:,} {kind} ({', '.join(listed + more)})")
        return "; ".join(parts)


def _counted(reason, names):
    one = len(names) == 1
    reason = reason.format(s="" if one else "s", it="it" if one else "them", is_no="is no" if one else "are no")
    return f"{len(names):,} {reason}{some(names)}"


def some(names):
    """The first of some names, for people: " (a, b, c, …)"."""
    more = ", …" if len(names) > _SHOWN else ""
    return f" ({', '.join(names[:_SHOWN])}{more})"


def printable(name):
    """A name whose bytes are no UTF-8 can be neither printed nor written as JSON."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def shown(path, root):
    return printable(path.relative_to(root).as_posix())


def is_hidden(name):
    """Whether a file or folder of this name is hidden, or is one that operating systems, servers and tools make."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def read(path, left_out):
    """The `Folder` at a path, or in the zip file there. left_out: `LeftOut`, which collects. Raises: DataError."""
    return _read_zip(path, left_out) if zipped.is_zip(path) else _read_folder(path, path, left_out)


def _read_zip(root, left_out):
    def folder(path, members):
        """The `Folder` of members, each given by the parts of its name below it."""
        files, below, hidden = [], {}, {}
        for name, *others in members:
            place = path / name
            if is_hidden(name):
                hidden[shown(place, root)] = "hidden or system folder{s}" if others else "hidden file{s}"
            elif others:
                below.setdefault(name, []).append(others)
            elif place.suffix.lower() in EXTENSIONS:
                files.append(place)
            else:
                left_out.endings[place.suffix.lower()] += 1
        for name, kind in hidden.items():
            left_out.add(kind, name)
        return Folder(path, files, [folder(path / name, inside) for name, inside in sorted(below.items())])

    return folder(root, [name.split("/") for name in sorted(zipped.names(root))])


def _read_folder(path, root, left_out, above=()):
    """The `Folder` at a path. above: device and number of the folders that it lies in."""
    try:
        state = path.stat()
        above = (*above, (state.st_dev, state.st_ino))
        with os.scandir(path) as entries:
            entries = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{path} cannot be listed ({error.strerror}): expected a folder that may be read") from error
    files, folders = [], []
    for entry in entries:
        place = path / entry.name
        name = shown(place, root)
        if is_hidden(entry.name):
            kind = "hidden or system folder{s}" if os.path.isdir(place) else "hidden file{s}"
            left_out.add(kind, name)
            continue
        try:
            state = place.stat()
        except OSError:  # also of links in a circle
            left_out.add("link{s} to nothing", name)
            continue
        ending = place.suffix.lower()
        if entry.is_dir():
            if (state.st_dev, state.st_ino) in above:
                left_out.add("link{s} to a folder above {it}", name)
                continue
            folders.append(_read_folder(place, root, left_out, above))
        elif ending not in EXTENSIONS:
            left_out.endings[ending] += 1
            continue
        elif entry.is_file():
            files.append(place)
        else:
            left_out.add("that {is_no} regular file{s}", name)
            continue
        if entry.is_symlink():
            left_out.followed.append(name)
    return Folder(path, files, folders)
