"""A trained model as functions of arrays, whether it came from a run or from a published version."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf
import tqdm

from tfvae.command import UserError
from tfvae.config import Config
from tfvae.data import images
from tfvae.data.replicas import over_replicas
from tfvae.data.split import CHUNK, batches_of
from tfvae.drawing import prior

BATCH = 64  # pictures that a replica draws or encodes at once


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained model, from its run or as published.

    Attributes:
        path: the run's folder, or the version's.
        flags: the values of its `Config`.
        num_classes: of its generator; 0: it takes no label.
        generate: (latent float32 [N, Z], label int32 [N] or None) -> uint8 [N, R, R, 3].
        encode: uint8 [N, R, R, 3], from a run also float32 in about [-1, 1] -> (mean, log variance), float32 [N, Z] each; None
            where there is no encoder.
        images_seen: in its training.
        facts: plain dict that says what it is.
        sample: (seed int64 [N], truncation float32 [N], label int32 [N] or None) -> PNG files, bytes [N]: what the endpoint's
            `sample` draws. Of a published version its very bytes; of a run the same latents, whose pictures may differ by a grey
            level, more in bfloat16. Empty bytes for a row that a version cannot draw.
        decode: as `generate`, but to float32 in the model's range; None for a published version, which gives no floats.
        decoder_sigma: trained standard deviation of the pixels around `decode`'s; None where none was trained.
        network: the generator itself, through which gradients go: tensors as `generate` takes -> float [N, R, R, 3] in the
            model's range; None for a published version, whose signatures have no gradients.
    """

    path: pathlib.Path
    flags: dict
    num_classes: int
    generate: object
    encode: object
    images_seen: int
    facts: dict
    sample: object = None
    decode: object = None
    decoder_sigma: float | None = None
    network: object = None

    @property
    def resolution(self):
        return self.flags["resolution"]

    @property
    def latent_dim(self):
        return self.flags["latent_dim"]

    @property
    def background(self):
        """The colour behind transparent images that it was trained with."""
        return self.flags.get("background", Config.background)

    @property
    def fit(self):
        """How images that are not square became so in its training."""
        return self.flags.get("fit", Config.fit)

    @property
    def preparation(self):
        """How images become those that it was trained on: arguments of `pipeline.load`."""
        return dict(resolution=self.resolution, background=self.background, fit=self.fit)


def of_objective(objective, path, flags, facts, ema=True, replica_batch=BATCH):
    """The `Model` of an objective's networks, over the replicas of the strategy in whose scope it is called.

    Args:
        objective: an `Objective`. path, flags, facts: as `Model`'s.
        ema: with the moving averages of the weights; else with the last weights, of both networks.
        replica_batch: pictures that each replica draws or encodes at once.
    """
    network = objective.ema_generator if ema else objective.generator
    encode = encoder(objective, ema, replica_batch) if objective.encode else None
    generate = drawer(network, replica_batch)
    return Model(
        path,
        flags,
        network.num_classes,
        generate,
        encode,
        objective.images_seen,
        facts,
        sampler(generate, network.latent_dim),
        decoder(network, replica_batch),
        objective.decoder_sigma,
        network,
    )


def codes(model, split, seed=0):
    """One draw from the posterior of each image of a split: (float32 [N, Z], labels int32 [N], zeros without classes)."""
    draw = np.random.default_rng(seed)
    latents, labels = [], []
    batches = batches_of(split, np.arange(split.num_images))
    for image, label in tqdm.tqdm(batches, "codes", -(-split.num_images // CHUNK), leave=False, disable=None):
        mean, log_variance = model.encode(image)
        latents.append(mean + np.exp(0.5 * log_variance) * draw.standard_normal(mean.shape, np.float32))
        labels.append(label if model.num_classes else np.zeros(len(image), np.int32))
    return np.concatenate(latents), np.concatenate(labels)


def drawer(network, replica_batch=BATCH):
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
        drawn = over_replicas(draw, replica_batch, *([latent] if label is None else [latent, label]))
        bad = np.count_nonzero(~drawn["finite"])
        if bad:
            raise UserError(
                f"the generator drew NaN or infinity in {bad} of {len(latent)} images: expected finite pixels; its training has "
                "diverged, so take an earlier checkpoint or train with lower learning rates."
            )
        return drawn["image"]

    return generate


def sampler(generate, latent_dim):
    """`Model.sample` of a run. generate: its `Model.generate`."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32)])
    def draw(seed, truncation):
        return prior.latents_of_seeds(seed, truncation, latent_dim)

    def sample(seed, truncation, label=None):
        latent = draw(tf.constant(seed, tf.int64), tf.constant(truncation, tf.float32))
        return tf.io.encode_png(generate(latent.numpy(), label)).numpy()

    return sample


def decoder(network, replica_batch=BATCH):
    """As `drawer`, but to float32 in the model's range, whatever the network draws."""

    @tf.function(reduce_retracing=True)
    def draw(*inputs):
        return {"image": tf.cast(network(*inputs), tf.float32)}

    def decode(latent, label=None):
        return over_replicas(draw, replica_batch, *([latent] if label is None else [latent, label]))["image"]

    return decode


def encoder(objective, ema=True, replica_batch=BATCH):
    """An objective's encoder as a function of arrays: `Model.encode` of a run.

    Over the replicas of the strategy in whose scope it is called. `ema`: its moving average, which belongs with the generator's.
    """
    network = objective.ema_discriminator if ema else objective.discriminator

    @tf.function(reduce_retracing=True)
    def encode(image):
        image = images.to_model_range(image) if image.dtype == tf.uint8 else image
        mean, log_variance = objective.encode(image, encoder=network)
        return {"mean": mean, "log_variance": log_variance}

    def encode_all(image):
        encoded = over_replicas(encode, replica_batch, image)
        return encoded["mean"], encoded["log_variance"]

    return encode_all
