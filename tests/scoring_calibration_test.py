"""Calibration: what is done to the images, and which images are compared."""

import numpy as np
import pytest
import scoring_toys

from tfvae.scoring import calibration

pytestmark = pytest.mark.filterwarnings("ignore:.*rank-deficient")


def test_blurred_images_are_those_of_the_gaussian():
    image = np.zeros([1, 33, 33, 3], np.uint8)
    image[0, 16, 16] = 255
    weights = np.exp(-(np.arange(-4, 5) ** 2) / 2.0)
    weights /= weights.sum()
    found = calibration.blur(image, 1.0)
    np.testing.assert_array_equal(found[0, 12:21, 12:21, 0], np.round(255 * np.outer(weights, weights)))
    assert not calibration.blur(np.stack([image[0], 0 * image[0]]), 1.0)[1].any()  # no image reaches into another


def test_the_mean_colour_is_each_images_own():
    image = np.stack([np.full([16, 16, 3], (10, 20, 30)), np.full([16, 16, 3], 7)]).astype(np.uint8)
    image[1, :8] = 9
    np.testing.assert_array_equal(calibration.mean_colour(image)[:, 3, 3], [[10, 20, 30], [8, 8, 8]])


def test_jpeg_keeps_flat_images_and_spoils_others(make_split):
    flat = np.full([2, 16, 16, 3], 128, np.uint8)
    np.testing.assert_array_equal(calibration.jpeg(flat), flat)
    images = make_split(2).images
    assert np.abs(calibration.jpeg(images).astype(int) - images).mean() > 20


def test_without_held_out_images_the_reference_is_half_of_them(make_split):
    extractor = scoring_toys.make_counting()
    split = make_split(41)
    rows = list(calibration.rows(split, None, 1000, extractor))
    assert (rows[0].reference_images, rows[0].images) == (20, 20)
    assert rows[0].scores["memorisation_ratio_of_20_training_images"] == pytest.approx(1)
    assert not any("classes" in row.name for row in rows)  # without labels
    with pytest.raises(ValueError, match="1 reference and 1 other real images: expected 2 or more"):
        next(calibration.rows(make_split(2), None, 1000, extractor))
