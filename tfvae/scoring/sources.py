"""Where images to be scored come from: a trained model, files, a split of a dataset, noise.

A source has `facts`, a plain dict that says what it is, `num_images`, how many images it has (None: as many as are asked
for), and `batches(num_images, seed)`, which yields (uint8 [b, R, R, 3], int32 [b] labels or None).
"""

import dataclasses
import zipfile
import zlib

import numpy as np

from tfvae import command
from tfvae.command import UserError
from tfvae.config import Config, colour
from tfvae.data import folder, pipeline, zipped
from tfvae.data.images import on_background
from tfvae.data.split import CHUNK, batches_of, choose
from tfvae.scoring import kinds


class Generator:
    """Images that a generator draws.

    Args:
        model: `tfvae.drawing.model.Model`.
        prior: what latents are drawn from, one of the classes of `tfvae.drawing.prior`.
        label_pool: int32 [M], of which labels are drawn with replacement; None for a generator without labels.
    """

    num_images = None

    def __init__(self, model, prior, label_pool):
        self.model, self.prior, self.label_pool = model, prior, label_pool
        labels = "drawn from the reference's" if label_pool is not None else None
        self.facts = model.facts | {"prior": prior.facts, "labels": labels}

    def batches(self, num_images, seed):
        labels = np.zeros(num_images, np.int32)
        if self.label_pool is not None:
            labels = self.label_pool[np.random.default_rng([seed, 1]).integers(len(self.label_pool), size=num_images)]
        latent = self.prior.draw(labels, seed)
        for start in range(0, num_images, CHUNK):
            rows = slice(start, start + CHUNK)
            label = labels[rows] if self.label_pool is not None else None
            yield self.model.generate(latent[rows], label), label


class Stored:
    """Images of a split, a subset that the seed fixes where there are more than are asked for.

    Args:
        split: `Split`. facts: in place of the split's name.
    """

    def __init__(self, split, facts=None):
        self.split, self.num_images = split, split.num_images
        self.facts = (facts or {"dataset": split.dataset, "split": split.split}) | {"fingerprint": split.fingerprint}

    def batches(self, num_images, seed):
        # Another choice than the reference's, which may be of the same split.
        return batches_of(self.split, choose(self.num_images, num_images, [seed, 3]))


class Noise:
    """Pixels drawn uniformly: what every score must tell from images.

    Args:
        resolution: px a side.
    """

    num_images = None

    def __init__(self, resolution):
        self.resolution, self.facts = resolution, {"noise": "uniform pixels"}

    def batches(self, num_images, seed):
        draw = np.random.default_rng([seed, 2])
        for start in range(0, num_images, CHUNK):
            number = min(CHUNK, num_images - start)
            yield draw.integers(0, 256, [number, self.resolution, self.resolution, 3], np.uint8), None


# Names of arrays in .npz files: of this project, of NumPy's `savez` without names, of others.
IMAGE_ARRAYS = ("images", "arr_0", "x")
LABEL_ARRAYS = ("labels", "arr_1", "y")


def load_files(path, resolution, background=Config.background):
    """A `Stored` of a folder of images, of a zip file of them, or of an .npz file's array.

    Args:
        path: folder or zip file, with numbers of classes in `labels.csv` or `dataset.json`, if known; or .npz file with uint8
            [N, R, R, 3], or 4 channels with alpha, called as one of `IMAGE_ARRAYS`, and labels, if known, as one of
            `LABEL_ARRAYS`.
        resolution: px a side that the reference has.
        background: colour behind transparent images.

    Raises:
        UserError: no images, or of another size or type; labels that are no whole numbers from 0 on.
    """
    place = command.path("images", path)
    try:
        if place.is_dir() or _is_zip_of_images(place):
            split = _load_folder(place, resolution, background)
        else:
            images, labels, notes = _read_npz(place, resolution, colour(background))
            split = pipeline.Split(
                dataset=str(place),
                split="all",
                resolution=resolution,
                num_images=len(images),
                num_classes=0 if labels is None else int(labels.max()) + 1,
                class_names=(),
                images=images,
                labels=np.zeros(len(images), np.int32) if labels is None else labels,
                background=background,
                notes=notes,
            )
    except ValueError as error:
        raise UserError(f"--images={path}: {error}") from error
    return Stored(split, {"images": str(path)})


def _is_zip_of_images(path):
    return zipped.is_zip(path) and not any(name.endswith(".npy") for name in zipped.names(path))


def _load_folder(place, resolution, background):
    """The `Split` of a folder or zip file; its labels are those of a file that numbers the classes, if there is one."""
    listing = folder.list_images(place)
    for size in folder.sizes(listing.files):
        _check_size(*size, resolution)
    split = pipeline.load(f"folder:{place}", resolution=resolution, background=background)
    names = listing.class_names
    if listing.labels_file and names and all(name.isdigit() for name in names):
        labels = np.array([int(name) for name in names], np.int32)[split.labels]
        return dataclasses.replace(split, labels=labels, num_classes=int(labels.max()) + 1, class_names=())
    # Sub-folders need not be the reference's classes.
    notes = ("the names of its classes are not compared with the reference's",) if names else ()
    return dataclasses.replace(split, num_classes=0, class_names=(), notes=notes + split.notes)


def _read_npz(path, resolution, background):
    """(images, labels or None, notes). Raises: ValueError."""
    try:
        arrays = np.load(path)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with arrays:
            name = next((name for name in IMAGE_ARRAYS if name in arrays), None)
            of_labels = next((name for name in LABEL_ARRAYS if name in arrays), None)
            found = arrays.files
            images = None if name is None else arrays[name]
            labels = None if of_labels is None else arrays[of_labels]
    except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"it cannot be read ({reason}): expected a folder of images, a zip file of them or an .npz file with uint8 "
            "[N, R, R, 3]"
        ) from error
    if images is None:
        shown = ", ".join(found[:10]) + (", …" if len(found) > 10 else "") or "none"
        raise ValueError(f"its arrays are called {shown}: expected one called {' or '.join(IMAGE_ARRAYS)}")
    if images.ndim == 4 and images.shape[-1] == 4 and images.dtype == np.uint8:
        images = on_background(images, background)
    kinds.check_images(images)
    _check_size(images.shape[2], images.shape[1], resolution)
    others = [other for other in found if other not in (name, of_labels)]
    notes = (f"images are its array '{name}'" + (f", labels '{of_labels}'" if of_labels else ""),)
    notes += (f"left out: arrays {', '.join(others[:10])}{', …' if len(others) > 10 else ''}",) if others else ()
    return images, _checked(labels, len(images)), notes


def _checked(labels, num_images):
    """Labels as int32 [N], None where there are none. Raises: ValueError."""
    if labels is None:
        return None
    if labels.shape != (num_images,):
        raise ValueError(f"labels have the shape {list(labels.shape)}: expected one per image, {num_images}.")
    if labels.dtype.kind not in "iuf" or not (labels == np.round(labels)).all():
        raise ValueError(f"labels are {labels.dtype} and not all whole numbers: expected whole numbers from 0 on")
    if labels.min() < 0 or labels.max() >= 2**31:
        raise ValueError(
            f"labels go from {labels.min():.0f} to {labels.max():.0f}: expected whole numbers from 0 to 2147483647"
        )
    return labels.astype(np.int32)


def _check_size(width, height, resolution):
    """Raises a ValueError for images of another size than the reference's."""
    if width == height == resolution:
        return
    other = f", or score at --resolution={width} by an extractor that takes it" if width == height else ""
    raise ValueError(
        f"images are {width} x {height} px and the reference's {resolution} x {resolution}: expected one size; resize the "
        f"images{other}."
    )
