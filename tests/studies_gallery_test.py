"""A study's pictures, and their realism by NumPy."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfvae.data import content
from tfvae.drawing.model import Model
from tfvae.scoring import extractors, kinds
from tfvae.studies import gallery


def test_realism_is_that_of_the_papers_formula():
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(40, 3)), 2 * draw.normal(size=(7, 3))
    distances = np.linalg.norm(real[:, None] - real, axis=-1)
    radii = np.sort(distances, axis=1)[:, 3]
    kept = radii <= np.median(radii)
    ratios = radii[kept] / np.linalg.norm(fake[:, None] - real[kept], axis=-1)
    np.testing.assert_allclose(gallery.realism(real, fake), ratios.max(axis=1), rtol=1e-6)


@pytest.mark.parametrize("logits", [True, False])
def test_pictures_of_copies_find_their_originals_and_spread_as_they_do(logits, make_split, monkeypatch, tmp_path):
    train = make_split(40)
    monkeypatch.setattr(content, "cache_dir", lambda: tmp_path)

    @tf.function
    def run(images):
        features = tf.reshape(tf.cast(images, tf.float32), [-1, 32 * 32 * 3])
        return {"features": features} | ({"logits": features[:, :2]} if logits else {})

    extractor = kinds.Extractor(extractors.EXTRACTORS["classifier"], "pixels", "pixels 1", run)
    copies = lambda latent, label: train.images[np.arange(len(latent)) % 40]  # noqa: E731
    model = Model(None, {"resolution": 32, "latent_dim": 4}, 0, copies, None, 64, {})
    taken = gallery.take(model, train, extractor, 40, 0)
    np.testing.assert_array_equal(taken["unselected"], train.images[: gallery.SHOWN])
    np.testing.assert_array_equal(taken["best_neighbours"], taken["best"])
    facts = json.loads(str(taken["facts"]))
    assert (facts["images_seen"], facts["extractor"]) == (64, "pixels 1")
    assert facts["data_fingerprint"] == train.fingerprint
    # Without logits there are no classes.
    assert facts["spread_within_classes"] == (pytest.approx(1.0) if logits else None)
