"""Sheets to look at: pictures of pictures, all from latents that a seed fixes.

A generator here is a function (latent float32 [N, latent_dim], label int32 [N] or None) -> uint8 [N, R, R, 3]; an encoder
is a function (image uint8 [N, R, R, 3]) -> (mean, log variance), both float32 [N, latent_dim].
"""

import numpy as np
import tensorflow as tf

from tfvae.data import images

BATCH = 64


def drawer(network):
    """A generator network as a function of arrays, in batches, with its moving batch statistics."""

    @tf.function(reduce_retracing=True)
    def draw(latent, label):
        return images.to_uint8(network(latent, label))

    def generate(latent, label=None):
        parts = []
        for start in range(0, len(latent), BATCH):
            rows = slice(start, start + BATCH)
            part = None if label is None else tf.constant(label[rows])
            parts.append(draw(tf.constant(latent[rows]), part).numpy())
        return np.concatenate(parts)

    return generate


def encoder_of(model, ema=True):
    """An objective's encoder as a function of arrays: uint8 pictures to (mean, log variance), float32 [N, latent_dim] each.

    ema: its moving average, which belongs with the decoder's.
    """

    encoder = model.ema_discriminator if ema else model.discriminator

    @tf.function(reduce_retracing=True)
    def encode(image):
        return model.encode(images.to_model_range(image), encoder=encoder)

    def encode_all(image):
        parts = [encode(tf.constant(image[start : start + BATCH])) for start in range(0, len(image), BATCH)]
        return tuple(np.concatenate([part[i].numpy() for part in parts]) for i in range(2))

    return encode_all


def latents(number, latent_dim, seed=0):
    """Standard normal, float32 [number, latent_dim]: row i is the same whatever the number of rows."""
    return tf.random.stateless_normal([number, latent_dim], [seed, 0], alg="philox").numpy()


def interpolate(start, end, steps):
    """Spherical interpolation between latents: two [N, Z] -> [N, steps, Z], both ends included.

    Straight lines would pass through lengths that a normal of many dimensions hardly ever has (White, arXiv 1609.04468).
    """
    share = np.linspace(0.0, 1.0, steps, dtype=np.float32)[None, :, None]
    start, end = start[:, None], end[:, None]
    norms = np.linalg.norm(start, axis=-1, keepdims=True) * np.linalg.norm(end, axis=-1, keepdims=True)
    cosine = np.clip(np.sum(start * end, -1, keepdims=True) / np.maximum(norms, 1e-12), -1.0, 1.0)
    angle = np.arccos(cosine)
    sine = np.sin(angle)
    straight = (1.0 - share) * start + share * end
    with np.errstate(divide="ignore", invalid="ignore"):
        curved = (np.sin((1.0 - share) * angle) * start + np.sin(share * angle) * end) / sine
    return np.where(sine < 1e-6, straight, curved).astype(np.float32)


def truncated(latent, truncation):
    """Latents as if redrawn until every entry is within +-truncation (BigGAN's truncation trick): the same shape.

    By the inverse of the normal's distribution function, so one draw gives one latent for every truncation and they
    compare entry by entry.
    """
    latent = tf.constant(latent, tf.float64)
    phi = 0.5 * tf.math.erfc(-latent / np.sqrt(2.0))
    low = 0.5 * tf.math.erfc(truncation / np.sqrt(2.0))
    return tf.cast(tf.math.ndtri(low + phi * (1.0 - 2.0 * low)), tf.float32).numpy()


def row_labels(number, num_classes, columns):
    """One class a row of a sheet, in turn: int32 [number]; None without classes."""
    return (np.arange(number) // columns % num_classes).astype(np.int32) if num_classes else None


def grid(generate, latent_dim, num_classes, seed=0, rows=8, columns=8):
    """Unselected samples, their classes drawn too: uint8 picture."""
    number = rows * columns
    label = (
        tf.random.stateless_uniform([number], [seed, 1], 0, num_classes, tf.int32, "philox") if num_classes else None
    )
    return images.sheet(generate(latents(number, latent_dim, seed), None if label is None else label.numpy()), columns)


def class_rows(generate, latent_dim, num_classes, seed=0, columns=8, most_rows=20):
    """Unselected samples, one class a row: uint8 picture."""
    number = min(num_classes, most_rows) * columns
    return images.sheet(generate(latents(number, latent_dim, seed), row_labels(number, num_classes, columns)), columns)


def interpolations(generate, latent_dim, num_classes, seed=0, rows=8, columns=8):
    """Each row goes from one latent to another, within one class: uint8 picture."""
    ends = latents(2 * rows, latent_dim, seed)
    path = interpolate(ends[:rows], ends[rows:], columns).reshape(-1, latent_dim)
    return images.sheet(generate(path, row_labels(rows * columns, num_classes, columns)), columns)


def reconstructions(generate, encode, real, label=None, columns=8):
    """Rows of real images, each above a row of their reconstructions from the latent's mean: uint8 picture.

    Args:
        real: uint8 [N, R, R, 3], N a multiple of `columns`. label: int32 [N] for a conditional decoder.
    """
    drawn = generate(encode(real)[0], label)
    pairs = [part[start : start + columns] for start in range(0, len(real), columns) for part in (real, drawn)]
    return images.sheet(np.concatenate(pairs), columns)


def truncation_sweep(
    generate, latent_dim, num_classes, truncations=(0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), seed=0, rows=8
):
    """The same latents at each truncation, one latent a row, least varied first: uint8 picture."""
    latent = latents(rows, latent_dim, seed)
    sweep = np.stack([truncated(latent, t) for t in truncations] + [latent], 1).reshape(-1, latent_dim)
    columns = len(truncations) + 1
    return images.sheet(generate(sweep, row_labels(rows * columns, num_classes, columns)), columns)
