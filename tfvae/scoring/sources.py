"""Where images to be scored come from: a trained model, files, a split of a dataset, noise.

A source has `facts`, a plain dict that says what it is, `num_images`, how many images it has (None: as many as are asked
for), and `batches(num_images, seed)`, which yields (uint8 [b, R, R, 3], int32 [b] labels or None).
"""

import dataclasses
import pathlib
import zipfile

import numpy as np

from tfvae.command import UserError
from tfvae.data import pipeline
from tfvae.data.split import CHUNK, batches_of, choose
from tfvae.scoring import extractors


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


def load_files(path, resolution):
    """A `Stored` of a folder of images or of an .npz file's array.

    Args:
        path: folder, or .npz with one array, or one named `images` (and int `labels`, if known): uint8 [N, R, R, 3].
        resolution: px a side that the reference has.

    Raises:
        UserError: no images, or of another size or type.
    """
    facts = {"images": str(path)}
    if pathlib.Path(path).is_dir():
        try:
            split = pipeline.load(f"folder:{path}")
        except pipeline.DataError as error:
            raise UserError(f"--images={path}: {error}") from error
        if split.resolution != resolution:
            raise UserError(_other_size(path, split.resolution, split.resolution, resolution))
        # Sub-folders need not be the reference's classes.
        return Stored(dataclasses.replace(split, num_classes=0, class_names=()), facts)
    try:
        with np.load(path) as arrays:
            name = "images" if "images" in arrays else arrays.files[0]
            array = arrays[name]
            labels = arrays["labels"].astype(np.int32) if "labels" in arrays else None
    except (OSError, ValueError, IndexError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--images={path} cannot be read ({reason}): expected a folder of images or an .npz file with uint8 [N, R, R, 3]."
        ) from error
    try:
        extractors.check_images(array)
    except ValueError as error:
        raise UserError(f"--images={path}: {error}") from error
    if array.shape[1:3] != (resolution, resolution):
        raise UserError(_other_size(path, array.shape[2], array.shape[1], resolution))
    if labels is not None and labels.shape != (len(array),):
        raise UserError(
            f"--images={path}: labels have the shape {list(labels.shape)}: expected one per image, {len(array)}."
        )
    split = pipeline.Split(
        dataset=str(path),
        split="all",
        resolution=resolution,
        num_images=len(array),
        num_classes=0 if labels is None else int(labels.max()) + 1,
        class_names=(),
        images=array,
        labels=np.zeros(len(array), np.int32) if labels is None else labels,
    )
    return Stored(split, facts)


def _other_size(path, width, height, resolution):
    other = f", or score at --resolution={width} by an extractor that takes it" if width == height else ""
    return (
        f"--images={path}: images are {width} x {height} px and the reference's {resolution} x {resolution}: expected one size; "
        f"resize the images{other}."
    )
