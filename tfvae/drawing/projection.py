"""Projection: the latent whose picture is nearest to a given image, found alike for every objective.

The best of many draws, then Adam on the latent through the generator, by pixels and features as StyleGAN2's projector does
(Karras et al., arXiv 1912.04958); nothing is asked of an encoder. What is not in a model's range cannot be drawn, so the error
that is left is a recall that needs no neighbours. It is an upper bound: Adam finds a minimum near its start.
"""

import dataclasses

import numpy as np
import tensorflow as tf
import tqdm

from tfvae.data.replicas import over_replicas
from tfvae.drawing import prior

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's (Kingma and Ba, arXiv 1412.6980)


@dataclasses.dataclass(frozen=True, eq=False)
class Projection:
    """Of N images.

    Attributes:
        label: int32 [N]; None for a model without classes.
        drawn: float32 [N, Z], the best draw of each image, where its descent begins.
        latent: float32 [N, Z], the best latent that was seen.
    """

    label: np.ndarray | None
    drawn: np.ndarray
    latent: np.ndarray


def squared_error(pixels, images):
    """Mean squared difference of pixels as parts of 255: two [..., H, W, 3], 0 to 255 -> float32 [...]."""
    difference = tf.cast(pixels, tf.float32) - tf.cast(images, tf.float32)
    return tf.reduce_mean(tf.square(difference / 255.0), axis=[-3, -2, -1])


def feature_distance(features, of_images):
    """Squared distance of features in parts of the image's own squared length: two [..., D] -> float32 [...]."""
    length = tf.reduce_sum(tf.square(of_images), -1)
    return tf.reduce_sum(tf.square(features - of_images), -1) / tf.maximum(length, 1e-12)


def has_gradient(extractor, resolution):
    """Whether an extractor's features have a gradient with regard to pixels; not where it takes uint8 alone, or rounds."""
    image = tf.fill([1, resolution, resolution, 3], 127.5)
    try:
        with tf.GradientTape() as tape:
            tape.watch(image)
            features = extractor.run(image)["features"]
        return tape.gradient(features, image) is not None
    except (tf.errors.OpError, LookupError, TypeError, ValueError):
        return False


def project(
    model,
    extractor,
    images,
    labels=None,
    num_draws=512,
    steps=200,
    learning_rate=0.1,
    feature_weight=0.01,
    replica_batch=16,
    seed=0,
):
    """The `Projection` of images: of mean squared error plus `feature_weight` times the distance of the features.

    An image's does not depend on the others: all begin with the same draws, every batch has one shape, and Adam's steps are
    taken for each image alone. The rate falls linearly to 0.

    Args:
        model: `tfvae.drawing.model.Model` of a run, loaded in the scope of the current strategy.
        extractor: `Extractor`, which has a gradient (`has_gradient`) unless `feature_weight` is 0.
        images: uint8 [N, R, R, 3].
        labels: int32 [N], classes of the model; None: draws with labels drawn too, of which the best draw's stays.
        num_draws: latents of which the best is taken; for images with labels as many of each class.
        steps: Adam's. learning_rate: its first, in units of the latent's prior.
        replica_batch: images that each replica works on at once.
        seed: of the draws.
    """
    features = extractor(images)["features"]
    label, drawn = _best_draws(model, extractor, images, features, labels, num_draws, feature_weight, seed)
    step = _stepper(model.network, extractor, feature_weight)
    batch = replica_batch * tf.distribute.get_strategy().num_replicas_in_sync
    found = []
    # One more than the steps: the latent after the last one is judged too.
    with tqdm.tqdm(total=-(-len(images) // batch) * (steps + 1), desc="steps", disable=None) as progress:
        for start in range(0, len(images), batch):
            rows = slice(start, start + batch)
            given = [images[rows], features[rows]] + ([] if label is None else [label[rows]])
            latent = drawn[rows]
            moments = np.zeros_like(latent)
            worst = np.full(len(latent), np.inf, np.float32)
            state = {"latent": latent, "mean": moments, "square": moments, "loss": worst, "best": latent}
            for taken in range(steps + 1):
                correction = np.sqrt(1.0 - BETA_2 ** (taken + 1)) / (1.0 - BETA_1 ** (taken + 1))
                rate = learning_rate * (1.0 - taken / (steps + 1)) * correction
                rates = np.full([len(latent), 1], rate, np.float32)
                state = over_replicas(step, replica_batch, rates, *state.values(), *given)
                progress.update()
            found.append(state["best"])
    return Projection(label, drawn, np.concatenate(found))


def _best_draws(model, extractor, images, features, labels, number, feature_weight, seed):
    """(label int32 [N] or None, latent float32 [N, Z]): of each image the nearest of the same draws."""
    latents = prior.latents(number, model.latent_dim, seed)
    if not model.num_classes:
        pools = [(np.arange(len(images)), None)]
    elif labels is None:
        drawn = tf.random.stateless_uniform([number], [seed, 1], 0, model.num_classes, tf.int32, "philox")
        pools = [(np.arange(len(images)), drawn.numpy())]
    else:
        pools = [(np.flatnonzero(labels == label), np.full(number, label, np.int32)) for label in np.unique(labels)]
    chosen = np.zeros(len(images), np.int64)
    found = np.zeros(len(images), np.int32)
    for rows, pool in tqdm.tqdm(pools, "draws", leave=False, disable=None):
        pictures = model.generate(latents, pool)
        of_pictures = extractor(pictures)["features"] if feature_weight else None
        for row in rows:
            loss = squared_error(pictures, images[row])
            if feature_weight:
                loss += feature_weight * feature_distance(of_pictures, features[row])
            chosen[row] = np.argmin(loss)
            found[row] = pool[chosen[row]] if pool is not None else 0
    return found if model.num_classes else None, latents[chosen]


def _stepper(network, extractor, feature_weight):
    """One step of Adam for each row: a function for `over_replicas`, which gives back the state that it takes.

    By hand, for the moments are of rows, not of variables; in the form at the end of the paper's section 2, whose rate has the
    correction of both moments in it.
    """

    @tf.function(reduce_retracing=True)
    def step(rate, latent, mean, square, loss, best, image, features, *label):
        with tf.GradientTape() as tape:
            tape.watch(latent)
            # Neither rounded nor clipped, either of which would stop the gradient.
            pixels = (tf.cast(network(latent, *label), tf.float32) + 1.0) * 127.5
            now = squared_error(pixels, image)
            if feature_weight:
                now += feature_weight * feature_distance(extractor.run(pixels)["features"], features)
        gradient = tape.gradient(now, latent)
        better = now < loss
        mean = BETA_1 * mean + (1.0 - BETA_1) * gradient
        square = BETA_2 * square + (1.0 - BETA_2) * tf.square(gradient)
        return {
            "latent": latent - rate * mean / (tf.sqrt(square) + EPSILON),
            "mean": mean,
            "square": square,
            "loss": tf.where(better, now, loss),
            "best": tf.where(better[:, None], latent, best),
        }

    return step
