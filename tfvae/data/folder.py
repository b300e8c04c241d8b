"""`folder:PATH`: a user's own images; where they lie in sub-folders, these are the classes."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import re

import numpy as np
import tqdm
from PIL import Image

from tfvae.command import path as path_of_flag
from tfvae.data import images
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
_NUMBER = r"([\W_]*(set|data|images|split|\d+))?"
_TRAINING = re.compile(rf"train(ing)?{_NUMBER}")
_HELD_OUT = re.compile(rf"(val|valid|validation|dev|test|testing|eval|evaluation){_NUMBER}")
_SHOWN = 3  # names of what was left out


@dataclasses.dataclass(frozen=True)
class Listing:
    """What was found below a folder.

    Attributes:
        base: the folder whose sub-folders are the classes; without classes the folder itself.
        files: list of N paths, in an order that does not depend on the file system.
        labels: int32 [N], zeros without classes.
        class_names: tuple of str; empty without classes.
        notes: tuple of str, for people: how the images were found, what was left out and why.
    """

    base: pathlib.Path
    files: list
    labels: np.ndarray
    class_names: tuple
    notes: tuple

    @property
    def names(self):
        """{name below `base`: path} of all files."""
        return {file.relative_to(self.base).as_posix(): file for file in self.files}


def list_images(path):
    """Finds the images below a folder, and their classes.

    Classes are the sub-folders of the folder; where a single one of them has images, its sub-folders are, and so on. Images
    beside them are left out, if they are no more than a class has on average. If they are more, or there are no two sub-folders
    with images, there are no classes and all images are taken.

    Links are followed, but not back into a folder that they lie in. Hidden folders and files, and those that systems make, are
    left out.

    Args:
        path: the folder, as the user gave it.

    Returns:
        `Listing`.

    Raises:
        DataError: no such folder, no image in it, or training images beside test images. UserError: a URL.
    """
    if not str(path):
        raise DataError("folder: PATH is missing: expected folder:PATH with images in PATH")
    root = path_of_flag("dataset", path)
    if not root.is_dir():
        reason = "is a file" if root.exists() else "there is no such folder"
        raise DataError(f"folder:{path}: {reason}; expected folder:PATH with images in PATH")
    left_out = _LeftOut()
    tree = _read_tree(root, root, left_out)
    if not tree.count:
        notes = f" ({left_out.text})" if left_out.text else ""
        raise DataError(
            f"folder:{path}: no images found{notes}; expected files ending in .png, .jpg, .webp, .tif or as other formats that "
            "Pillow decodes"
        )
    way = _way_to_classes(tree)
    top, notes = way[-1], []
    _refuse_splits(path, root, top)
    classes = top.full if top.holds_classes else []
    if classes:
        strays = [_shown(file, root) for folder in way for file in folder.files]
        left_out.add("image{s} beside the class folders", *strays)
        left_out.add("folder{s} without images", *(_shown(f.path, root) for f in top.folders if not f.count))
        if top is not tree:
            notes.append(f"the classes are the folders of {_shown(top.path, root)}")
    elif top.full:
        notes.append(f"the folders are no classes: {len(top.files):,} images lie beside them, more than a class has")
    if left_out.followed:
        notes.append(f"links followed: {len(left_out.followed):,}{_some(left_out.followed)}")
    if left_out.text:
        notes.append(f"left out: {left_out.text}")
    base = top if classes else tree
    labelled = [(file, label) for label, folder in enumerate(classes) for file in folder.all_files()]
    labelled = labelled or [(file, 0) for file in tree.all_files()]
    labelled.sort(key=lambda pair: pair[0].relative_to(base.path).as_posix())
    return Listing(
        base=base.path,
        files=[file for file, _ in labelled],
        labels=np.array([label for _, label in labelled], np.int32),
        class_names=tuple(_printable(folder.path.name) for folder in classes),
        notes=tuple(notes),
    )


class _Folder:
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


class _LeftOut:
    """Collects what is not taken: {reason: names}, endings of files that are no images; and the links that were followed."""

    def __init__(self):
        self.names, self.endings, self.followed = {}, collections.Counter(), []

    def add(self, reason, *names):
        if names:
            self.names.setdefault(reason, []).extend(names)

    @property
    def text(self):
        parts = [_counted(reason, names) for reason, names in self.names.items()]
        if self.endings:
            number = self.endings.total()
            found = sorted(self.endings.items(), key=lambda pair: (not pair[0], -pair[1], pair[0]))
            shown = [f"{n:,} {ending or 'without ending'}" for ending, n in found[:10]]
            more = ["…"] if len(found) > 10 else []
            kind = "file of another kind" if number == 1 else "files of other kinds"
            parts.append(f"{number:,} {kind} ({', '.join(shown + more)})")
        return "; ".join(parts)


def _counted(reason, names):
    one = len(names) == 1
    reason = reason.format(s="" if one else "s", it="it" if one else "them", is_no="is no" if one else "are no")
    return f"{len(names):,} {reason}{_some(names)}"


def _some(names):
    more = ", …" if len(names) > _SHOWN else ""
    return f" ({', '.join(names[:_SHOWN])}{more})"


def _printable(name):
    """A name whose bytes are no UTF-8 can be neither printed nor written as JSON."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _shown(path, root):
    return _printable(path.relative_to(root).as_posix())


def is_hidden(name):
    """Whether a file or folder of this name is hidden, or is one that operating systems, servers and tools make."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def _read_tree(path, root, left_out, above=()):
    """The `_Folder` at a path. above: device and number of the folders that it lies in."""
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
        name = _shown(place, root)
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
            folders.append(_read_tree(place, root, left_out, above))
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
    return _Folder(path, files, folders)


def _way_to_classes(tree):
    """The `_Folder`s from a tree down, through each single sub-folder that holds at least as many images as lie beside it."""
    way = [tree]
    while len(way[-1].full) == 1 and len(way[-1].files) <= way[-1].full[0].count:
        way.append(way[-1].full[0])
    return way


def _refuse_splits(path, root, folder):
    """Raises a DataError for folders of training and test images, which are no classes."""
    names = [one.path.name for one in folder.full]
    training = [name for name in names if _TRAINING.fullmatch(name.lower())]
    held_out = [name for name in names if _HELD_OUT.fullmatch(name.lower())]
    if held_out and (training or len(held_out) == len(names) > 1):
        parts = training + held_out
        given = os.path.normpath(os.path.join(path, folder.path.relative_to(root), parts[0]))
        raise DataError(
            f"folder:{path} holds {', '.join(f'{part}/' for part in parts)}, which are parts of a dataset and no classes: give "
            f"folder:{given} to take the images of that part alone"
        )


def common_resolution(files):
    """The side that all images share, read from their headers.

    Raises:
        DataError: sizes differ or are not square, so the user has to choose a resolution; or a file cannot be read.
    """
    first = None
    for file, size in zip(files, sizes(files)):
        first = first or size
        if size != first or size[0] != size[1]:
            raise DataError(
                f"{file} is {size[0]} x {size[1]} px and {files[0].name} {first[0]} x {first[1]} px, expected one "
                f"square size: give --resolution, and every image is cropped to its centred square and resized"
            )
    return first[0]


def sizes(files):
    """Yields (width, height) of each file, read from its header. Raises: DataError."""
    for file in files:
        with _readable(file), Image.open(file) as image:
            size = image.size
        yield size


def read_image(file, resolution, background=images.WHITE):
    """Reads one image upright as a square RGB one.

    Args:
        file: path or binary stream; bytes where tf.data calls this function.
        resolution: side in px.
        background: (red, green, blue), each 0 to 255, behind transparent images.

    Returns:
        uint8 [resolution, resolution, 3].

    Raises:
        DataError: the file cannot be read as an image.
    """
    file = os.fsdecode(file) if isinstance(file, bytes) else file
    with _readable(file), Image.open(file) as image:
        return images.fit(images.pixels_of(image), resolution, background)


def read_images(files, resolution, background=images.WHITE):
    """Reads all images, several at a time: Pillow decodes without holding Python's lock.

    Args:
        files: list of N paths. resolution, background: as `read_image`'s.

    Returns:
        uint8 [N, resolution, resolution, 3].

    Raises:
        DataError: a file cannot be read as an image.
    """
    result = np.empty([len(files), resolution, resolution, 3], np.uint8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda file: read_image(file, resolution, background), files)
        for place, image in enumerate(tqdm.tqdm(decoded, "reading images", len(files), leave=False, disable=None)):
            result[place] = image
    return result


@contextlib.contextmanager
def _readable(file):
    """Turns what Pillow raises for a damaged file into a DataError that names it."""
    name = _printable(file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "an image"))
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plug-ins raise a dozen kinds of them for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{name} cannot be read ({error.strerror}): expected an image file") from error
        raise DataError(
            f"{name} cannot be read as an image ({reason}): repair it or take it out of the folder"
        ) from error
