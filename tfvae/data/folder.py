"""`folder:PATH`: a user's own images; where they lie in sub-folders, these are the classes."""

import concurrent.futures
import pathlib

import numpy as np
import tqdm
from PIL import Image, ImageOps

from tfvae.data import images
from tfvae.data.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def list_images(path):
    """Finds the images below a folder, in an order that does not depend on the file system.

    Sub-folders of the first level are classes if two or more of them hold images and no image lies beside them.

    Args:
        path: the folder.

    Returns:
        (list of pathlib.Path, int32 [N] labels (zeros without classes), tuple of class names (empty without)).

    Raises:
        DataError: no such folder, or no image in it.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise DataError(f"folder:{path}: there is no such folder; expected folder:PATH with images in PATH")
    files = [f for f in root.rglob("*") if f.suffix.lower() in EXTENSIONS and f.is_file() and f.name[0] != "."]
    if not files:
        raise DataError(f"folder:{path}: no images found; expected files ending in {', '.join(EXTENSIONS)}")
    files.sort(key=lambda f: f.relative_to(root).as_posix())
    tops = [f.relative_to(root).parts[0] if f.parent != root else None for f in files]
    class_names = tuple(sorted(set(tops) - {None}))
    if None in tops or len(class_names) < 2:
        return files, np.zeros(len(files), np.int32), ()
    numbers = {name: number for number, name in enumerate(class_names)}
    return files, np.array([numbers[top] for top in tops], np.int32), class_names


def common_resolution(files):
    """The side that all images share, read from their headers.

    Raises:
        DataError: sizes differ or are not square, so the user has to choose a resolution; or a file cannot be read.
    """
    first = None
    for file in files:
        try:
            with Image.open(file) as image:
                size = image.size
        except OSError as error:
            raise _unreadable(file, error) from error
        first = first or size
        if size != first or size[0] != size[1]:
            raise DataError(
                f"{file} is {size[0]} x {size[1]} px and {files[0].name} {first[0]} x {first[1]} px, expected one "
                f"square size: give --resolution, and every image is cropped to its centred square and resized"
            )
    return first[0]


def read_image(file, resolution):
    """Reads one image upright as a square RGB one.

    Args:
        file: path; bytes where tf.data calls this function.
        resolution: side in px.

    Returns:
        uint8 [resolution, resolution, 3].

    Raises:
        DataError: the file cannot be read as an image.
    """
    file = file.decode() if isinstance(file, bytes) else str(file)
    try:
        with Image.open(file) as image:
            return images.fit(np.asarray(ImageOps.exif_transpose(image).convert("RGB")), resolution)
    # Pillow's plug-ins also raise SyntaxError and ValueError for broken files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def read_images(files, resolution):
    """Reads all images, several at a time: Pillow decodes without holding Python's lock.

    Args:
        files: list of N paths.
        resolution: side in px.

    Returns:
        uint8 [N, resolution, resolution, 3].

    Raises:
        DataError: a file cannot be read as an image.
    """
    result = np.empty([len(files), resolution, resolution, 3], np.uint8)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        decoded = pool.map(lambda file: read_image(file, resolution), files)
        for place, image in enumerate(tqdm.tqdm(decoded, "reading images", len(files), leave=False, disable=None)):
            result[place] = image
    return result


def _unreadable(file, error):
    reason = " ".join(str(error).split())
    return DataError(f"{file} cannot be read as an image ({reason}): repair it or take it out of the folder")
