"""Latents and sheets: fixed by a seed, on the sphere, truncated as a redrawn normal would be."""

import numpy as np

from tfvae.drawing import sheets


def fake_generator(latent, label=None):
    """Pictures of one colour: red tells the label, green the latent's first entry."""
    picture = np.zeros((len(latent), 4, 4, 3), np.uint8)
    picture[..., 0] = 0 if label is None else label[:, None, None]
    picture[..., 1] = np.clip(latent[:, 0] * 50 + 128, 0, 255).astype(np.uint8)[:, None, None]
    return picture


def test_latents_do_not_depend_on_how_many_are_drawn():
    np.testing.assert_array_equal(sheets.latents(3, 10, seed=4), sheets.latents(8, 10, seed=4)[:3])
    assert not np.array_equal(sheets.latents(3, 10, seed=4), sheets.latents(3, 10, seed=5))


def test_interpolation_keeps_both_ends_and_turns_at_even_angles():
    start, end = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    path = sheets.interpolate(start, end, 4)[0]
    angles = np.radians([0, 30, 60, 90])
    np.testing.assert_allclose(path, np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-6)


def test_interpolation_between_equal_latents_stays_there():
    latent = np.array([[0.3, -2.0, 1.0]], np.float32)
    np.testing.assert_allclose(sheets.interpolate(latent, latent, 3)[0], np.repeat(latent, 3, 0), atol=1e-6)


def test_truncated_latents_have_the_truncated_normal_s_spread_and_keep_their_order():
    latent = sheets.latents(400, 500)
    drawn = sheets.truncated(latent, 1.0)
    assert np.abs(drawn).max() <= 1.0
    # The variance of a standard normal cut at +-1: 1 - 2 phi(1) / (2 Phi(1) - 1).
    density, mass = np.exp(-0.5) / np.sqrt(2 * np.pi), 0.6826894921370859
    assert abs(drawn.var() - (1 - 2 * density / mass)) < 2e-3
    assert np.all(np.sign(drawn) == np.sign(latent))
    np.testing.assert_allclose(sheets.truncated(latent, 8.0), latent, atol=1e-4)


def test_class_rows_hold_one_class_a_row():
    picture = sheets.class_rows(fake_generator, 5, num_classes=3, columns=2)
    size = 4 + 2  # a picture and its gap
    assert picture.shape == (3 * size - 2, 2 * size - 2, 3)
    assert [picture[size * row, 0, 0] for row in range(3)] == [0, 1, 2]
    assert [picture[size * row, size, 0] for row in range(3)] == [0, 1, 2]


def test_truncation_sweep_ends_with_the_untouched_latent():
    picture = sheets.truncation_sweep(fake_generator, 5, 0, truncations=(0.1, 1.0), rows=2)
    expected = fake_generator(sheets.latents(2, 5))
    size = 4 + 2
    assert [picture[size * row, 2 * size, 1] for row in range(2)] == [expected[row, 0, 0, 1] for row in range(2)]
    assert all(abs(int(picture[size * row, 0, 1]) - 128) <= 5 for row in range(2))


def test_reconstructions_stand_below_their_images():
    real = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 4, 3), np.uint8)
    encode = lambda image: (np.full((len(image), 5), 1.0, np.float32), None)  # noqa: E731
    picture = sheets.reconstructions(fake_generator, encode, real, columns=2)
    size = 4 + 2
    assert [picture[size * row, 0, 0] for row in range(4)] == [0, 0, 2, 0]
    assert [picture[size * row, 0, 1] for row in range(4)] == [0, 178, 2, 178]
