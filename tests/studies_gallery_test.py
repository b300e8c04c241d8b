"""The pictures' arithmetic: realism, neighbours, spread within a class; values by hand and by NumPy."""

import json

import numpy as np
import pytest

from tfvae.scoring.protocol import Outputs
from tfvae.studies import gallery


def test_realism_is_that_of_the_papers_formula():
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(40, 3)), 2 * draw.normal(size=(7, 3))
    distances = np.linalg.norm(real[:, None] - real, axis=-1)
    radii = np.sort(distances, axis=1)[:, 3]
    kept = radii <= np.median(radii)
    ratios = radii[kept] / np.linalg.norm(fake[:, None] - real[kept], axis=-1)
    np.testing.assert_allclose(gallery.realism(real, fake), ratios.max(axis=1), rtol=1e-6)


def test_the_spread_within_classes_is_that_of_pairs():
    features = np.array([[0.0], [2.0], [4.0], [10.0], [11.0], [99.0]])
    labels = np.array([0, 0, 0, 1, 1, 2])
    outputs = Outputs(np.eye(3)[labels], features, None)
    # Class 0: pairs 2, 4, 2: mean square 8; class 1: 1; class 2 has no pair.
    assert gallery.spread_within_classes(outputs) == pytest.approx(np.sqrt((3 * 8 + 2 * 1) / 5))
    assert gallery.spread_within_classes(outputs, np.array([2, 6, 0])) == pytest.approx(np.sqrt((2 * 8 + 6 * 1) / 8))


def test_a_gallery_shows_the_first_images_the_most_realistic_ones_and_their_nearest_training_images(
    make_split, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    train = make_split(40, num_classes=2)
    copies = [7, 3, 30]

    class Model:
        latent_dim, num_classes, images_seen = 4, 2, 640

        def generate(self, latent, labels):
            """Noise of a contrast that no training image has, but copies of three of those in the places 20 to 22."""
            drawn = np.random.default_rng(1).integers(0, 2, (len(latent), 32, 32, 3)).astype(np.uint8) * 255
            if len(drawn) == 30:
                drawn[20:23] = train.images[copies]
            return drawn

    class Extractor:
        kind, checksum, preparation, resolution = "classifier", "c" * 64, "none", None

        def __call__(self, images):
            features = images[:, ::8, ::8].reshape(len(images), -1).astype(np.float32)
            return {"logits": features[:, :2], "features": features}

    arrays = gallery.take(Model(), train, Extractor(), 30, seed=0)
    drawn = Model().generate(np.zeros([30, 4]), None)
    np.testing.assert_array_equal(arrays["unselected"], drawn[:12])
    best = {picture.tobytes(): near for picture, near in zip(arrays["best"][:3], arrays["best_neighbours"])}
    assert set(best) == {
        train.images[i].tobytes() for i in copies
    }  # in whichever order: all three are as near as can be
    assert all(near.tobytes() == picture for picture, near in best.items())
    assert len(arrays["best"]) == 12 and arrays["interpolations"].shape == (24, 32, 32, 3)
    facts = json.loads(str(arrays["facts"]))
    assert facts["data_fingerprint"] == train.fingerprint and facts["extractor"] == "c" * 64 and facts["drawn"] == 30
