"""The pictures' arithmetic: realism, neighbours; values by hand and by NumPy."""

import numpy as np

from tfvae.studies import gallery


def test_realism_is_that_of_the_papers_formula():
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(40, 3)), 2 * draw.normal(size=(7, 3))
    distances = np.linalg.norm(real[:, None] - real, axis=-1)
    radii = np.sort(distances, axis=1)[:, 3]
    kept = radii <= np.median(radii)
    ratios = radii[kept] / np.linalg.norm(fake[:, None] - real[kept], axis=-1)
    np.testing.assert_allclose(gallery.realism(real, fake), ratios.max(axis=1), rtol=1e-6)


def test_neighbours_are_the_nearest():
    real, fake = np.array([[0.0], [10.0], [20.0]]), np.array([[12.0], [-1.0]])
    index, distance = gallery.neighbours(real, fake)
    assert list(index) == [1, 0] and list(distance) == [2.0, 1.0]
