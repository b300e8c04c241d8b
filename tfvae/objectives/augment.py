"""DiffAugment (Zhao et al., arXiv 2006.10738): differentiable changes of the pictures that the discriminator sees.

Each function takes float32 pictures [B, H, W, 3] in [-1, 1] and uniform random numbers in [0, 1), float32 [B, 3], which
the caller draws: nothing here holds state. Applied alike to real and generated pictures, with other numbers.
"""

import tensorflow as tf


def color(image, numbers):
    """Brightness by up to 0.5, saturation by a factor of 0 to 2, contrast by a factor of 0.5 to 1.5."""
    numbers = numbers[:, None, None, :]
    image = image + (numbers[..., 0:1] - 0.5)
    mean = tf.reduce_mean(image, -1, keepdims=True)
    image = (image - mean) * (2.0 * numbers[..., 1:2]) + mean
    mean = tf.reduce_mean(image, [1, 2, 3], keepdims=True)
    return (image - mean) * (numbers[..., 2:3] + 0.5) + mean


def translation(image, numbers):
    """Shifts by up to an eighth of the side either way, grey (0) where nothing is left."""
    size = image.shape[1]
    reach = int(size * 0.125 + 0.5)
    shift = tf.cast(tf.floor(numbers[:, :2] * (2 * reach + 1)), tf.int32) - reach
    # One row and one column of zeros before and after: every index outside is clipped onto them.
    padded = tf.pad(image, [[0, 0], [1, 1], [1, 1], [0, 0]])
    index = tf.range(size) + 1
    rows = tf.clip_by_value(index[None] + shift[:, :1], 0, size + 1)
    columns = tf.clip_by_value(index[None] + shift[:, 1:], 0, size + 1)
    return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def cutout(image, numbers):
    """Greys out (0) one square of half the side, its centre anywhere in the picture."""
    size = image.shape[1]
    side = int(size * 0.5 + 0.5)
    centre = tf.cast(tf.floor(numbers[:, :2] * (size + (1 - side % 2))), tf.int32)
    index = tf.range(size)[None]
    start = centre - side // 2
    rows = tf.logical_and(index >= start[:, :1], index < start[:, :1] + side)
    columns = tf.logical_and(index >= start[:, 1:], index < start[:, 1:] + side)
    hole = tf.logical_and(rows[:, :, None], columns[:, None, :])
    return image * tf.cast(tf.logical_not(hole), image.dtype)[..., None]


POLICIES = {"color": color, "translation": translation, "cutout": cutout}
