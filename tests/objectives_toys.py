"""What the tests of the objectives share: a tiny objective, and batches of a split for its train step."""

import keras
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
