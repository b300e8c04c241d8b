"""tfvae as a library: a trained model as one object, for programs and notebooks. `tfvae.load` is its door."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfvae.command import UserError
from tfvae.drawing import prior
from tfvae.publishing import published
from tfvae.training import run

BATCH = 16  # pictures that a run's networks draw or encode at once; fewer take as long


def load(path, ema=True, best=False):
    """As `tfvae.load`."""
    path = Path(path).expanduser()
    if run.RunDirectory(path).config_file.exists():
        policy = keras.config.dtype_policy()
        try:
            return TrainedModel(run.load_run(path, ema, best, BATCH))
        finally:
            keras.config.set_dtype_policy(
                policy
            )  # loading sets the run's, which the caller's own networks do not share
    try:
        path = published.find(path)
    except UserError as error:
        raise UserError(f"no run of tfvae.train is there, and {error}") from None
    if not ema or best:
        raise ValueError(
            f"{path} is no run: expected ema=True and best=False, for a published version has one set of weights."
        )
    return TrainedModel(published.load(path))


class TrainedModel:
    """A trained model that draws, and where it has an encoder also encodes; arrays in, arrays out.

    Attributes:
        path: the run's folder, or the version's.
        resolution: R, the side of its pictures in px.
        latent_dim: Z.
        num_classes: C; 0: it takes no label.
        images_seen: in its training.
        flags: the values of its `Config`, by name.
        preparation: how images become those that it was trained on, arguments of `tfvae.data.pipeline.load`.
        facts: which weights it has, and of which checkpoint.
        network: the generator or decoder itself, a `keras.Model` through which gradients go: (latent float32 [N, Z], label int32
            [N] or None) -> float [N, R, R, 3] in [-1, 1]; None for a published version, whose functions have no gradients.

    Args:
        model: `tfvae.drawing.model.Model`.
    """

    def __init__(self, model):
        self._model = model
        self.path, self.resolution, self.latent_dim = model.path, model.resolution, model.latent_dim
        self.num_classes, self.images_seen = model.num_classes, model.images_seen
        self.flags, self.facts, self.network = model.flags, model.facts, model.network
        self.preparation = model.preparation

    def __repr__(self):
        classes = f", {self.num_classes} classes" if self.num_classes else ""
        encoder = "with" if self._model.encode else "without"
        return (
            f"<{self.flags['objective']} of {self.flags['dataset']}, {self.resolution} px, latents of {self.latent_dim}"
            f"{classes}, {encoder} an encoder, {self.images_seen:,} images seen: {self.path}>"
        )

    def sample(self, seed=0, count=16, label=None, truncation=None):
        """Pictures of consecutive seeds: picture i is what the endpoint's `sample` draws for seed + i.

        Args:
            seed: of the first picture, int64. count: N, 1 or more.
            label: class of all, or one of each, int [N]; None: the classes take turns.
            truncation: latents stay within +-truncation, more than 0; None: no limit.

        Returns:
            uint8 [N, R, R, 3].

        Raises:
            ValueError: an argument is out of range. UserError: a picture has NaN or infinity.
        """
        seeds, limits = self._seeds(seed, count, truncation)
        if label is None and self.num_classes:
            label = np.arange(count) % self.num_classes
        files = self._model.sample(seeds, limits, self._labels(label, count))
        if not all(files):
            raise UserError(
                f"a picture has NaN or infinity: expected finite pixels; load another checkpoint than {self.path}."
            )
        return np.stack([tf.io.decode_png(png, channels=3).numpy() for png in files])

    def latents(self, seed=0, count=16, truncation=None):
        """The latents that `sample` draws from, float32 [N, Z]; arguments and errors as its own."""
        seeds, limits = self._seeds(seed, count, truncation)
        return prior.latents_of_seeds(tf.constant(seeds), tf.constant(limits), self.latent_dim).numpy()

    def decode(self, z, label=None):
        """Pictures of latents.

        Args:
            z: float [N, Z]. label: class of all, or one of each, int [N]; needed where the model has classes.

        Returns:
            uint8 [N, R, R, 3].

        Raises:
            ValueError: an argument has another shape, or is out of range.
        """
        z = np.asarray(z, np.float32)
        if z.ndim != 2 or z.shape[1] != self.latent_dim or not len(z) or not np.isfinite(z).all():
            raise ValueError(f"z: float {list(z.shape)}: expected finite numbers of the shape [N, {self.latent_dim}].")
        return self._model.generate(z, self._labels(label, len(z)))

    def encode(self, images):
        """The mean of the posterior of images, a latent each.

        Args:
            images: uint8 [N, R, R, 3].

        Returns:
            float32 [N, Z].

        Raises:
            ValueError: images of another shape or dtype. UserError: the model has no encoder.
        """
        return self.posterior(images)[0]

    def posterior(self, images):
        """The whole posterior of images: (mean, log variance), float32 [N, Z] each; argument and errors as `encode`'s."""
        if self._model.encode is None:
            raise UserError(
                f"{self.path} has no encoder (objective {self.flags['objective']}): expected a model that was trained with one, "
                "such as a VAE. python -m tfvae.project finds the latents of images without an encoder."
            )
        images, expected = np.asarray(images), (self.resolution, self.resolution, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected or not len(images):
            raise ValueError(
                f"images: {images.dtype} {list(images.shape)}: expected uint8 [N, {self.resolution}, {self.resolution}, 3]."
            )
        return self._model.encode(images)

    def reconstruct(self, images, label=None):
        """What the decoder makes of the mean of each image's posterior.

        Args:
            images: as `encode`'s. label: as `decode`'s.

        Returns:
            uint8 [N, R, R, 3].
        """
        return self.decode(self.encode(images), label)

    def interpolate(self, start, end, steps=8, label=None):
        """Pictures on the way from one latent to another, both ends included, spherical as `tfvae.sample` draws it.

        Args:
            start, end: float [Z], such as rows of `latents` or `encode`. steps: N, 2 or more. label: as `decode`'s.

        Returns:
            uint8 [N, R, R, 3].

        Raises:
            ValueError: an argument has another shape, or is out of range.
        """
        ends = np.stack([np.asarray(end_, np.float32) for end_ in (start, end)])
        if ends.shape != (2, self.latent_dim):
            raise ValueError(
                f"start and end: shape {list(ends.shape[1:])}: expected one latent each, [{self.latent_dim}]."
            )
        if steps < 2:
            raise ValueError(f"steps={steps}: expected 2 or more.")
        return self.decode(prior.interpolate(ends[:1], ends[1:], steps)[0], label)

    def _seeds(self, seed, count, truncation):
        """(seeds int64 [N], truncations float32 [N])."""
        if count < 1:
            raise ValueError(f"count={count}: expected 1 or more.")
        if not -(2**63) <= seed <= 2**63 - count:
            raise ValueError(f"seed={seed}: expected an int64 number, the last picture's too.")
        if truncation is not None and not truncation > 0:
            raise ValueError(f"truncation={truncation}: expected more than 0, or None.")
        return seed + np.arange(count, dtype=np.int64), np.full(count, truncation or np.inf, np.float32)

    def _labels(self, label, count):
        """int32 [N]; None for a model without classes."""
        classes = f"a class from 0 to {self.num_classes - 1}, or one for each of {count} pictures"
        if not self.num_classes:
            if label is not None:
                raise ValueError("label: the model was trained without labels: expected None.")
            return None
        if label is None:
            raise ValueError(f"label is missing: expected {classes}, for the model was trained with labels.")
        label = np.asarray(label)
        if label.dtype.kind not in "iu" or label.shape not in ((), (count,)):
            raise ValueError(f"label: {label.dtype} {list(label.shape)}: expected {classes}.")
        if not np.all((label >= 0) & (label < self.num_classes)):
            raise ValueError(f"label: {label.min()} to {label.max()}: expected {classes}.")
        return np.broadcast_to(label, [count]).astype(np.int32)
