"""Where images to be scored come from: a trained model, files, a split of a dataset, noise.

A source has `facts`, a plain dict that says what it is, `num_images`, how many images it has (None: as many as are asked
for), and `batches(num_images, seed)`, which yields (uint8 [b, R, R, 3], int32 [b] labels or None).
"""

import dataclasses
import pathlib
import zipfile

import numpy as np
import tensorflow as tf
import tqdm

from tfvae import evaluation, experiment, published, sheets
from tfvae.config import PLACES, UserError
from tfvae.data import images, pipeline
from tfvae.scores import features


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model, from its run or as published.

    Attributes:
        path: the run's folder, or the version's.
        flags: the values of its `Config`.
        num_classes: of its generator; 0: it takes no label.
        generate: (latent float32 [N, Z], label int32 [N] or None) -> uint8 [N, R, R, 3].
        encode: uint8 [N, R, R, 3] -> (mean, log variance), float32 [N, Z] each; None for a GAN.
        images_seen: in its training.
        facts: plain dict that says what it is.
    """

    path: pathlib.Path
    flags: dict
    num_classes: int
    generate: object
    encode: object
    images_seen: int
    facts: dict

    @property
    def resolution(self):
        return self.flags["resolution"]

    @property
    def latent_dim(self):
        return self.flags["latent_dim"]


def load_run(model_dir, ema=True, best=False, replica_batch=100):
    """The `Model` of a run of `tfvae.train`; call it in the strategy's scope.

    Args:
        ema: with the moving average of the weights, whose batch-norm statistics were measured anew before it was saved.
        best: the checkpoint that scored best while training, not the newest.
        replica_batch: images that a replica draws at once.

    Raises:
        UserError: no run, or no checkpoint that can be read.
    """
    settings, _, model = experiment.load(model_dir, best=best)
    network = model.ema_generator if ema else model.generator
    # Without an average, or before it begins, what is kept in its place is a copy.
    averaged = settings.ema_decay > 0 and model.images_seen > settings.ema_start_images
    weights = "moving average" if averaged else "of the last step"
    facts = {
        "flags": {name: value for name, value in vars(settings).items() if name not in PLACES},
        "weights": f"{weights}, batch-norm statistics measured anew" if ema else "of the last step",
        "checkpoint": "best" if best else "newest",
        "images_seen": model.images_seen,
    }
    encode = sheets.encoder_of(model) if settings.objective == "vae" else None
    generate = drawer(network, replica_batch)
    return Model(
        pathlib.Path(model_dir), vars(settings), network.num_classes, generate, encode, model.images_seen, facts
    )


def load_published(saved_model):
    """The `Model` that `tfvae.export` published in a folder. Raises: UserError."""
    model = published.load(saved_model)
    flags, seen = model.facts["flags"], model.facts["images_seen"]
    facts = {
        "saved_model": model.facts["name"],
        "flags": flags,
        "images_seen": seen,
    }
    return Model(model.path, flags, model.num_classes, model.generate, model.encode, seen, facts)


def codes(model, split, seed=0):
    """One draw from the posterior of each image of a split: (float32 [N, Z], labels int32 [N], zeros without classes)."""
    draw = np.random.default_rng(seed)
    latents, labels = [], []
    batches = evaluation.batches_of(split, np.arange(split.num_images))
    for image, label in tqdm.tqdm(
        batches, "codes", -(-split.num_images // evaluation.CHUNK), leave=False, disable=None
    ):
        mean, log_variance = model.encode(image)
        latents.append(mean + np.exp(0.5 * log_variance) * draw.standard_normal(mean.shape, np.float32))
        labels.append(label if model.num_classes else np.zeros(len(image), np.int32))
    return np.concatenate(latents), np.concatenate(labels)


def drawer(network, replica_batch):
    """A generator network as a function of arrays: (latent float32 [N, Z], label int32 [N] or None) -> uint8 [N, R, R, 3].

    Over the replicas of the strategy in whose scope it is called.

    Raises (the function):
        UserError: the network drew NaN or infinity, which uint8 would hide.
    """

    @tf.function(reduce_retracing=True)
    def draw(*inputs):
        image = network(*inputs)
        finite = tf.reduce_all(tf.math.is_finite(image), axis=[1, 2, 3])
        return {"image": images.to_uint8(image), "finite": finite}

    def generate(latent, label=None):
        drawn = features.over_replicas(draw, replica_batch, *([latent] if label is None else [latent, label]))
        bad = np.count_nonzero(~drawn["finite"])
        if bad:
            raise UserError(
                f"the generator drew NaN or infinity in {bad} of {len(latent)} images: expected finite pixels; its training has "
                "diverged, so take an earlier checkpoint or train with lower learning rates."
            )
        return drawn["image"]

    return generate


class Generator:
    """Images that a generator draws.

    Args:
        model: a `Model`.
        prior: of `tfvae.prior`.
        label_pool: int32 [M], of which labels are drawn with replacement; None for a generator without labels.
    """

    num_images = None

    def __init__(self, model, prior, label_pool):
        self.generate, self.prior, self.label_pool = model.generate, prior, label_pool
        labels = "drawn from the reference's" if label_pool is not None else None
        self.facts = model.facts | {"prior": prior.facts, "labels": labels}

    def batches(self, num_images, seed):
        labels = np.zeros(num_images, np.int32)
        if self.label_pool is not None:
            labels = self.label_pool[np.random.default_rng([seed, 1]).integers(len(self.label_pool), size=num_images)]
        latent = self.prior.draw(labels, seed)
        for start in range(0, num_images, evaluation.CHUNK):
            rows = slice(start, start + evaluation.CHUNK)
            label = labels[rows] if self.label_pool is not None else None
            yield self.generate(latent[rows], label), label


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
        return evaluation.batches_of(self.split, evaluation.choose(self.num_images, num_images, [seed, 3]))


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
        for start in range(0, num_images, evaluation.CHUNK):
            number = min(evaluation.CHUNK, num_images - start)
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
        features.check_images(array)
    except ValueError as error:
        raise UserError(f"--images={path}: {error}") from error
    if array.shape[1:3] != (resolution, resolution):
        raise UserError(_other_size(path, array.shape[2], array.shape[1], resolution))
    if labels is not None and labels.shape != (len(array),):
        raise UserError(
            f"--images={path}: labels have the shape {list(labels.shape)}: expected one an image, {len(array)}."
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
    return (
        f"--images={path}: images are {width} x {height} px and the reference's {resolution} x {resolution}: expected one size; "
        "give --resolution to compare at another, or resize the images."
    )
