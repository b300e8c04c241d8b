"""An extractor that counts what it is run on, and a user whom the machine does not know."""

import pwd

import tensorflow as tf

from tfvae.data import content
from tfvae.scoring import extractors, kinds

CLASSIFIER = extractors.EXTRACTORS["classifier"]
counted = []  # images that the extractor below was run on


class Counting(kinds.Extractor):
    def __call__(self, images):
        counted.append(len(images))
        return super().__call__(images)


def load_counting(kind, folder):
    """An extractor that counts its images: means of quarters as features, of channels as logits."""

    @tf.function
    def means(images):
        small = tf.image.resize(tf.cast(images, tf.float32), [2, 2], "area") / 255.0
        return {"features": tf.reshape(small, [-1, 12]), "logits": 20.0 * tf.reduce_mean(small, [1, 2])}

    return Counting(kind, "counting", "of a stand-in", means, class_names=("red", "green", "blue"))


def make_counting():
    """That extractor; nothing is counted and no warning printed yet."""
    counted.clear()
    content.warn_once.cache_clear()
    return load_counting(CLASSIFIER, None)


def forget_user(monkeypatch):
    """A user whom the machine does not know, as in a container that runs under any number."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def unknown_home(monkeypatch):
    forget_user(monkeypatch)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
