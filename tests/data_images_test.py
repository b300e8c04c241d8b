"""Tests of tfvae.data.images."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae import command
from tfvae.data import images


def test_every_pixel_value_survives_the_way_to_the_model_range_and_back():
    pixels = np.arange(256, dtype=np.uint8)
    model = images.to_model_range(pixels)
    assert model.dtype == tf.float32
    np.testing.assert_allclose(model, np.arange(256) / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(images.to_uint8(model), pixels)


def test_to_uint8_rounds_and_clips_what_a_network_draws():
    drawn = tf.constant([-7.0, -1.0, -0.999, 0.0, 0.003, 0.9999, 1.0, 3.0])
    np.testing.assert_array_equal(images.to_uint8(drawn), [0, 0, 0, 128, 128, 255, 255, 255])


def test_to_uint8_computes_bfloat16_in_float32():
    drawn = tf.cast([0.9921875, -0.5], tf.bfloat16)
    np.testing.assert_array_equal(images.to_uint8(drawn), [254, 64])


def test_center_crop_square_keeps_the_middle_of_either_orientation():
    image = np.arange(3 * 7).reshape(3, 7, 1)
    np.testing.assert_array_equal(images.center_crop_square(image), image[:, 2:5])
    np.testing.assert_array_equal(images.center_crop_square(image.swapaxes(0, 1)), image[:, 2:5].swapaxes(0, 1))


def test_resize_averages_away_detail_finer_than_the_result():
    board = np.indices([64, 64]).sum(0) % 2 * 255
    board = np.repeat(board[..., None], 3, -1).astype(np.uint8)
    small = images.resize(board, 8)
    assert small.shape == (8, 8, 3)
    assert np.abs(small.astype(int) - 127).max() <= 3


def test_resize_is_bicubic_as_pillow_does_it():
    image = np.random.default_rng(0).integers(0, 256, [90, 90, 3], np.uint8)
    np.testing.assert_array_equal(images.resize(image, 45), np.asarray(Image.fromarray(image).resize((45, 45))))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_fit_makes_any_image_square_and_rgb(channels):
    image = np.full([10, 16, channels], 9, np.uint8)
    if channels in (2, 4):
        image[..., -1] = 255
    np.testing.assert_array_equal(images.fit(image, 5), np.full([5, 5, 3], 9))


def test_padding_puts_an_image_in_the_middle_of_either_orientation():
    image = np.arange(1, 1 + 2 * 5 * 3).reshape(2, 5, 3).astype(np.uint8)
    padded = images.pad_square(image, (7, 8, 9))
    assert padded.shape == (5, 5, 3) and (padded[[0, 3, 4]] == [7, 8, 9]).all()
    np.testing.assert_array_equal(padded[1:3], image)
    turned = images.pad_square(image.swapaxes(0, 1), (7, 8, 9))
    np.testing.assert_array_equal(turned, padded.swapaxes(0, 1))


def test_transparent_images_are_mixed_with_the_background_as_pillow_does_it():
    draw = np.random.default_rng(0)
    image, background = draw.integers(0, 256, [50, 50, 4], np.uint8), (10, 200, 99)
    expected = Image.new("RGBA", (50, 50), background)
    expected.alpha_composite(Image.fromarray(image))
    mixed = images.on_background(image, background)
    np.testing.assert_allclose(mixed, np.asarray(expected)[..., :3], atol=1)
    by_hand = image[..., :3] * (image[..., 3:] / 255) + np.array(background) * (1 - image[..., 3:] / 255)
    np.testing.assert_array_equal(mixed, np.round(by_hand))
    np.testing.assert_array_equal(images.on_background(image[None], background)[0], mixed)
    grey = images.on_background(image[..., 2:], background)
    np.testing.assert_array_equal(grey, images.on_background(np.dstack([image[..., [2, 2, 2, 3]]]), background))


def test_sheet_lays_images_out_row_by_row_with_a_gap():
    tiles = np.stack([np.full([3, 4, 3], value, np.uint8) for value in (10, 20, 30)])
    picture = images.sheet(tiles, columns=2)
    assert picture.shape == (3 + 2 + 3, 4 + 2 + 4, 3)
    assert (picture[:3, :4] == 10).all() and (picture[:3, 6:] == 20).all() and (picture[5:, :4] == 30).all()
    assert (picture[3:5] == 255).all() and (picture[:, 4:6] == 255).all() and (picture[5:, 6:] == 255).all()


def test_sheet_refuses_images_in_the_model_range():
    with pytest.raises(ValueError, match="uint8"):
        images.sheet(np.zeros([1, 4, 4, 3], np.float32), columns=1)


def test_write_png_writes_losslessly_and_leaves_nothing_beside(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, [5, 7, 3], np.uint8)
    images.write_png(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(Image.open(tmp_path / "new" / "a.png"), image)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.png"]


def test_write_png_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    image = np.zeros([2, 2, 3], np.uint8)
    images.write_png(tmp_path / "a.png", image)
    before = (tmp_path / "a.png").read_bytes()

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command.os, "replace", no_room)
    with pytest.raises(OSError, match="No space"):
        images.write_png(tmp_path / "a.png", image + 1)
    assert (tmp_path / "a.png").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
