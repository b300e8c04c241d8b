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


def rows_of(distances, recalls, noise, **others):
    """A calibration's rows: real images, then the blurred ones, then noise."""
    names = ["40 held-out images", *(f"blurred by {sigma:g} px" for sigma in calibration.BLURS)]
    scores = [{"kernel_x_distance": d, "recall_by_x": r} for d, r in zip(distances, recalls)]
    rows = [{"name": name, "scores": values} for name, values in zip(names, scores)]
    return [*rows, {"name": "noise", "scores": {"kernel_x_distance": noise, "recall_by_x": 0.0}}]


def test_blur_takes_half_of_a_score_at_a_distance_between_two_rows():
    distances, recalls = (0.0, 1.0, 3.0, 7.0, 20.0, 30.0, 40.0), (0.8, 0.6, 0.5, 0.1, 0.0, 0.0, 0.0)
    # Half of 0.8 lies a quarter of the way from 0.5 to 0.1: 3 + (7 - 3) / 4.
    assert calibration.blur_limits(rows_of(distances, recalls, 90.0)) == {"recall": pytest.approx(4.0)}
    # Noise that is nearer than that: the extractor cannot judge blurred images.
    assert calibration.blur_limits(rows_of(distances, recalls, 2.0)) == {"recall": 2.0}
    assert calibration.blur_limits(rows_of(distances, [0.8] * 7, 90.0)) == {}
    assert calibration.blur_limits(rows_of([None] * 7, recalls, 90.0)) == {}
