"""`folder:PATH`: a user's own images; where they lie in sub-folders, these are the classes."""

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
from tfvae.config import Config
from tfvae.data import images, label_files, tree, zipped
from tfvae.data.errors import DataError

_NUMBER = r"([\W_]*(set|data|images|split|\d+))?"
_TRAINING = re.compile(rf"train(ing)?{_NUMBER}")
_HELD_OUT = re.compile(rf"(val|valid|validation|dev|test|testing|eval|evaluation){_NUMBER}")


@dataclasses.dataclass(frozen=True)
class Listing:
    """What was found below a folder.

    Attributes:
        root: the folder, or the zip file.
        base: the folder whose sub-folders are the classes, or in which `labels_file` is; without classes the root.
        files: list of N paths, in an order that does not depend on the file system.
        labels: int32 [N], zeros without classes.
        class_names: tuple of str; empty without classes.
        notes: tuple of str, for people: how the images were found, what was left out and why.
        labels_file: path of the file that says which class each image has; None: the folders do.
    """

    root: pathlib.Path
    base: pathlib.Path
    files: list
    labels: np.ndarray
    class_names: tuple
    notes: tuple
    labels_file: pathlib.Path | None = None

    @property
    def names(self):
        """{name below `base`: path} of all files on the disk that images and labels come from."""
        if zipped.is_zip(self.root):
            return {self.base.relative_to(self.root).as_posix(): self.root}
        files = [*self.files, *([self.labels_file] if self.labels_file else [])]
        return {file.relative_to(self.base).as_posix(): file for file in files}


def list_images(path):
    """Finds the images below a folder, and their classes.

    Classes are the sub-folders of the folder; where a single one of them has images, its sub-folders are, and so on. Images
    beside them are left out, if they are no more than a class has on average. If they are more, or there are no two sub-folders
    with images, there are no classes and all images are taken. A `labels.csv` or `dataset.json` in one of these folders says
    which class each image below it has, whatever the folders are (see `tfvae.data.label_files`).

    Links are followed, but not back into a folder that they lie in. Hidden folders and files, and those that systems make, are
    left out.

    Args:
        path: the folder, or a zip file, which is read as one, as the user gave it.

    Returns:
        `Listing`.

    Raises:
        DataError: no such folder, no image in it, training images beside test images, or a file of labels that is not of these
            images. UserError: a URL.
    """
    if not str(path):
        raise DataError("folder: PATH is missing: expected folder:PATH with images in PATH")
    root = path_of_flag("dataset", path)
    if not root.is_dir() and not zipped.is_zip(root):
        reason = "is a file" if root.exists() else "there is no such folder"
        raise DataError(f"folder:{path}: {reason}; expected folder:PATH with images in PATH, or a zip file of them")
    left_out = tree.LeftOut()
    whole = tree.read(root, left_out)
    if not whole.count:
        notes = f" ({left_out.text})" if left_out.text else ""
        raise DataError(
            f"folder:{path}: no images found{notes}; expected files ending in .png, .jpg, .webp, .tif or as other formats that "
            "Pillow decodes"
        )
    way = _way_to_classes(whole)
    base, labels_file = label_files.find(way)
    if base:
        labelled, classes, notes = _by_file(labels_file, base, root, left_out)
        _leave_out_strays(way[: way.index(base)], root, left_out)
    else:
        _refuse_splits(path, root, way[-1])
        base, labelled, classes, notes = _by_folders(way, root, left_out)
    if left_out.followed:
        notes.append(f"links followed: {len(left_out.followed):,}{tree.some(left_out.followed)}")
    if left_out.text:
        notes.append(f"left out: {left_out.text}")
    labelled.sort(key=lambda pair: pair[0].relative_to(base.path).as_posix())
    return Listing(
        root=root,
        base=base.path,
        files=[file for file, _ in labelled],
        labels=np.array([label for _, label in labelled], np.int32),
        class_names=tuple(map(tree.printable, classes)),
        notes=tuple(notes),
        labels_file=labels_file if classes else None,
    )


def _by_folders(way, root, left_out):
    """(base `tree.Folder`, [(file, label)], names of the classes, notes) where folders are the classes, if there are some."""
    top, notes = way[-1], []
    if not top.holds_classes:
        if top.full:
            notes.append(
                f"the folders are no classes: {len(top.files):,} images lie beside them, more than a class has"
            )
        return way[0], [(file, 0) for file in way[0].all_files()], [], notes
    _leave_out_strays(way, root, left_out, "beside the class folders")
    left_out.add("folder{s} without images", *(tree.shown(f.path, root) for f in top.folders if not f.count))
    if top is not way[0]:
        notes.append(f"the classes are the folders of {tree.shown(top.path, root)}")
    labelled = [(file, label) for label, folder in enumerate(top.full) for file in folder.all_files()]
    return top, labelled, [folder.path.name for folder in top.full], notes


def _by_file(file, base, root, left_out):
    """([(file, label)], names of the classes, notes) where a file says which class each image has."""
    left_out.take_back(file.suffix)
    shown = tree.shown(file, root)
    found = label_files.read(file, base)
    classes = label_files.in_order(set(found.values()))
    if len(classes) < 2:
        why = f"{shown} names one class alone" if classes else f"{shown} gives no labels"
        return [(image, 0) for image in base.all_files()], [], [f"without classes: {why}"]
    number = {name: label for label, name in enumerate(classes)}
    return (
        [(image, number[name]) for image, name in found.items()],
        list(map(str, classes)),
        [f"the classes are those of {shown}"],
    )


def _leave_out_strays(way, root, left_out, where="beside the folder of the labels"):
    """Notes the images that lie in the folders of a way, outside of what is taken."""
    left_out.add(f"image{{s}} {where}", *(tree.shown(file, root) for folder in way for file in folder.files))


def _way_to_classes(whole):
    """The `tree.Folder`s from the whole down through each single sub-folder with at least as many images as lie beside it."""
    way = [whole]
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
                f"square size: give --resolution, and every image is made square as --fit says and resized"
            )
    return first[0]


def sizes(files):
    """Yields (width, height) of each file, read from its header. Raises: DataError."""
    for file in files:
        with _readable(file), Image.open(zipped.opened(file)) as image:
            size = image.size
        yield size


def read_image(file, resolution, background=images.WHITE, fit=Config.fit):
    """Reads one image upright as a square RGB one.

    Args:
        file: path or binary stream; bytes where tf.data calls this function.
        resolution: side in px.
        background: (red, green, blue), each 0 to 255, behind transparent images.
        fit: how an image becomes square, one of `FITS`.

    Returns:
        uint8 [resolution, resolution, 3].

    Raises:
        DataError: the file cannot be read as an image.
    """
    file = os.fsdecode(file) if isinstance(file, bytes) else file
    with _readable(file), Image.open(zipped.opened(file)) as image:
        return images.fit(images.pixels_of(image), resolution, background, fit)


def read_images(files, resolution, background=images.WHITE, fit=Config.fit):
    """Reads all images, several at a time: Pillow decodes without holding Python's lock.

    Args:
        files: list of N paths. resolution, background, fit: as `read_image`'s.

    Returns:
        uint8 [N, resolution, resolution, 3].

    Raises:
        DataError: a file cannot be read as an image.
    """
    result = np.empty([len(files), resolution, resolution, 3], np.uint8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda file: read_image(file, resolution, background, fit), files)
        for place, image in enumerate(tqdm.tqdm(decoded, "reading images", len(files), leave=False, disable=None)):
            result[place] = image
    return result


@contextlib.contextmanager
def _readable(file):
    """Turns what Pillow raises for a damaged file into a DataError that names it."""
    name = tree.printable(file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "an image"))
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
