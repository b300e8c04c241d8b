"""What differs where a classifier learns single channels: its images, its eleventh answer, how it is applied to three.

`tfvae.train_classifier` trains it for datasets with one object in each channel: one classifier for all three channels, of
ten kinds of object and "none" for what is none of them. Published counts of modes come of classifiers that always answer
with a digit (the code of PacGAN, github.com/fjxmlzn/PacGAN), so that whatever a model draws finds some mode.
"""

import keras
import numpy as np
import scipy.ndimage
import tensorflow as tf

NONE = "none"
SHIFT = 2  # px up to which pictures are moved
BLURS = (0.5, 1.5)  # px: standard deviations of the Gaussian that learned copies are blurred with
NOISES = (10.0, 60.0)  # of 255: standard deviations of the noise that is added to learned copies
# What the accuracy is measured at: within what is learned.
TESTED_BLUR, TESTED_NOISE = 1.0, 40.0


def blurred(images, deviation):
    """float32 [B, R, R, 1], blurred with a Gaussian of a standard deviation in px, a scalar."""
    place = tf.range(-9.0, 10.0)
    line = tf.exp(-0.5 * tf.square(place / deviation))
    line /= tf.reduce_sum(line)
    down = tf.nn.conv2d(images, line[:, None, None, None], 1, "SAME")
    return tf.nn.conv2d(down, line[None, :, None, None], 1, "SAME")


def without_object(images, labels):
    """Pictures of no kind of object: mixtures of two kinds, blobs, noise and plain ones.

    Args:
        images: float32 [B, R, R, 1], 0 to 255. labels: int32 [B], their kinds.

    Returns:
        float32 [B, R, R, 1], and bool [B]: False where a mixture would have been of one kind.
    """
    size, side = tf.shape(images)[0], images.shape[1]
    other = tf.roll(images, 1, 0)
    share = tf.random.uniform([size, 1, 1, 1], 0.35, 0.65)
    faded = share * images + (1.0 - share) * other
    mixtures = tf.where(tf.random.uniform([size, 1, 1, 1]) < 0.5, faded, tf.maximum(images, other))
    coarse = tf.image.resize(tf.random.uniform([size, 5, 5, 1]), [side, side], "bicubic")
    blobs = tf.where(
        tf.random.uniform([size, 1, 1, 1]) < 0.5,
        255.0 * tf.sigmoid(12.0 * (coarse - tf.random.uniform([size, 1, 1, 1], 0.4, 0.8))),
        1.5 * blurred(images, tf.random.uniform([], 4.0, 6.0)),
    )
    level = tf.random.uniform([size, 1, 1, 1], 0.0, 255.0)
    plain = tf.random.uniform([size, 1, 1, 1]) < 0.5
    noise = tf.where(plain, level, level * tf.random.uniform(tf.shape(images)))
    which = tf.random.uniform([size, 1, 1, 1], 0, 4, tf.int32)  # mixtures are half: they are the hardest
    made = tf.where(which < 2, mixtures, tf.where(which == 2, blobs, noise))
    return made, (which[:, 0, 0, 0] >= 2) | (labels != tf.roll(labels, 1, 0))


def augment(batch):
    """Moves all pictures; blurs a quarter of them, adds noise to a quarter, puts pictures of no object in place of a quarter.

    Args:
        batch: {"image": uint8 [B, R, R, 1], "label": int32 [B], kinds from 0 to 9}.

    Returns:
        (uint8 [B, R, R, 1], int32 [B], 10 where there is no object).
    """
    side = batch["image"].shape[1]
    padded = tf.pad(tf.cast(batch["image"], tf.float32), [[0, 0], [SHIFT, SHIFT], [SHIFT, SHIFT], [0, 0]])
    # One move for all of a batch, whose pictures change with every epoch.
    down, right = tf.unstack(tf.random.uniform([2], 0, 2 * SHIFT + 1, tf.int32))
    image = tf.ensure_shape(padded[:, down : down + side, right : right + side], [None, side, side, 1])
    label = batch["label"]
    # Parts of one, and not a choice for each picture: batches are shuffled already.
    quarter = tf.shape(image)[0] // 4
    soft = blurred(image[:quarter], tf.random.uniform([], *BLURS))
    some = image[quarter : 2 * quarter]
    noisy = some + tf.random.uniform([quarter, 1, 1, 1], *NOISES) * tf.random.normal(tf.shape(some))
    rest = image[2 * quarter :]
    nothing, is_none = without_object(rest[:quarter], label[2 * quarter : 3 * quarter])
    nothing = tf.where(is_none[:, None, None, None], nothing, rest[:quarter])
    of_nothing = tf.where(is_none, 10, label[2 * quarter : 3 * quarter])
    image = tf.concat([soft, noisy, nothing, rest[quarter:]], 0)
    label = tf.concat([label[: 2 * quarter], of_nothing, label[3 * quarter :]], 0)
    return tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8), label


def make_extractor(network):
    """What is saved: {"logits": [B, 3, 11], "features": [B, 3 D]} of images uint8 [B, R, R, 3], each channel by itself."""
    outputs = keras.Model(network.input, [network.output, network.get_layer("features").output])
    side = network.input_shape[1]
    image = keras.Input([side, side, 3], dtype="uint8", name="image")
    logits, features = zip(*(outputs(image[..., channel : channel + 1]) for channel in range(3)))
    return keras.Model(image, {"logits": keras.ops.stack(logits, 1), "features": keras.ops.concatenate(features, -1)})


def accuracies(network, held_out):
    """The share of held-out pictures classified correctly: as they are, blurred, noisy, and without an object ("none").

    Args:
        network: uint8 [B, R, R, 1] -> logits [B, 11]. held_out: `Split` of single channels.

    Returns:
        {name: float}.
    """
    images, draw = held_out.images.astype(np.float32), np.random.default_rng(0)
    soft = scipy.ndimage.gaussian_filter(images, [0, TESTED_BLUR, TESTED_BLUR, 0])
    noisy = images + TESTED_NOISE * draw.standard_normal(images.shape, np.float32)
    partner = draw.permutation(len(images))
    differ = held_out.labels != held_out.labels[partner]
    mixed = (images / 2 + images[partner] / 2)[differ]
    noise = draw.integers(0, 256, images[:1000].shape)
    blobs = scipy.ndimage.gaussian_filter(images[:1000], [0, 5, 5, 0])

    def right(pictures, labels):
        pictures = np.clip(np.round(pictures), 0, 255).astype(np.uint8)
        return float(np.mean(network.predict(pictures, batch_size=256, verbose=0).argmax(axis=1) == labels))

    return {
        "accuracy": right(images, held_out.labels),
        "accuracy_blurred": right(soft, held_out.labels),
        "accuracy_noisy": right(noisy, held_out.labels),
        "mixtures_told_none": right(mixed, held_out.num_classes),
        "blobs_told_none": right(blobs, held_out.num_classes),
        "noise_told_none": right(noise, held_out.num_classes),
    }
