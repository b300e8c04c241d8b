"""What the tests share: a tiny objective, batches of a split for its train step, an objective whose likelihood is known."""

import keras
import numpy as np
import tensorflow as tf

from tfvae.config import Config
from tfvae.training import build


def make_model(split, tiny_flags, **changes):
    """(resolved Config, Objective) of the tiny flags with changes."""
    settings = build.resolve(Config(**tiny_flags | changes), split)
    keras.utils.set_random_seed(settings.seed)
    return settings, build.make_objective(settings, split.num_classes)


def batches_of(split, number, size=8):
    """The first batches of a split, as a train step takes them: `number` dicts of `size` images and labels."""
    rows = [slice(i * size, (i + 1) * size) for i in range(number)]
    return tuple({"image": tf.constant(split.images[r]), "label": tf.constant(split.labels[r])} for r in rows)


def at_step(model, step):
    """Makes an `Objective` one that has done so many steps."""
    model.step.assign(step)
    model.images.assign(step * model.images_per_step)


class LinearGaussian:
    """What a drawing model takes of an objective, of p(y|z) = N(z W, sigma^2 I), z of 3 values, with its exact posterior."""

    SIGMA = 0.1
    images_seen = 64

    def __init__(self, resolution):
        self.resolution, self.decoder_sigma = resolution, self.SIGMA
        # Rows at right angles: then the posterior is diagonal, as an encoder's is.
        rows = np.linalg.qr(np.random.default_rng(0).normal(size=(resolution**2 * 3, 3)))[0].T
        self.weights = (rows * np.array([[3.0], [2.0], [1.0]])).astype(np.float32)
        self.discriminator = self.ema_discriminator = None

    @property
    def generator(self):
        def decode(latent):
            return tf.reshape(latent @ self.weights, [-1, self.resolution, self.resolution, 3])

        decode.num_classes, decode.latent_dim = 0, len(self.weights)
        return decode

    ema_generator = generator

    def posterior(self, y):
        """Of float [N, H W C]: mean and log variance, float [N, 3]."""
        precision = 1.0 + np.sum(self.weights**2, 1) / self.SIGMA**2
        mean = y @ (self.weights / self.SIGMA**2 / precision[:, None]).T
        return mean, -np.log(precision) + 0.0 * mean

    def encode(self, image, training=False, encoder=None):
        return self.posterior(tf.reshape(image, [-1, self.resolution**2 * 3]))

    def images(self, number, seed):
        """uint8 [number, R, R, 3] of the model."""
        draw = np.random.default_rng([seed, 1])
        flat = draw.normal(size=(number, 3)) @ self.weights
        flat += self.SIGMA * draw.normal(size=flat.shape)
        return (
            np.round((flat.clip(-1, 1) + 1) * 127.5)
            .astype(np.uint8)
            .reshape(number, self.resolution, self.resolution, 3)
        )
