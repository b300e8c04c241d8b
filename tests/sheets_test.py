"""Latents and sheets: fixed by a seed, on the sphere, truncated as a redrawn normal would be."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae.command import UserError
from tfvae.data import images
from tfvae.drawing import directions, prior, sheets
from tfvae.drawing import model as drawing
from tfvae.scoring import kinds, neighbours


def fake_model(latent_dim=5, num_classes=0, encode=None):
    """Draws pictures of one colour: red is the label, green tells the latent's first entry."""

    def generate(latent, label=None):
        picture = np.zeros((len(latent), 4, 4, 3), np.uint8)
        picture[..., 0] = 0 if label is None else label[:, None, None]
        picture[..., 1] = np.clip(latent[:, 0] * 50 + 128, 0, 255).astype(np.uint8)[:, None, None]
        return picture

    return drawing.Model(None, {"resolution": 4, "latent_dim": latent_dim}, num_classes, generate, encode, 0, {})


def test_latents_do_not_depend_on_how_many_are_drawn():
    np.testing.assert_array_equal(prior.latents(3, 10, seed=4), prior.latents(8, 10, seed=4)[:3])
    assert not np.array_equal(prior.latents(3, 10, seed=4), prior.latents(3, 10, seed=5))


def test_interpolation_keeps_both_ends_and_turns_at_even_angles():
    start, end = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    path = prior.interpolate(start, end, 4)[0]
    angles = np.radians([0, 30, 60, 90])
    np.testing.assert_allclose(path, np.stack([np.cos(angles), np.sin(angles)], 1), atol=1e-6)


def test_interpolation_between_equal_latents_stays_there():
    latent = np.array([[0.3, -2.0, 1.0]], np.float32)
    np.testing.assert_allclose(prior.interpolate(latent, latent, 3)[0], np.repeat(latent, 3, 0), atol=1e-6)


def test_truncated_latents_have_the_truncated_normal_s_spread_and_keep_their_order():
    latent = prior.latents(400, 500)
    drawn = prior.truncated(latent, 1.0)
    assert np.abs(drawn).max() <= 1.0
    # The variance of a standard normal cut at +-1: 1 - 2 phi(1) / (2 Phi(1) - 1).
    density, mass = np.exp(-0.5) / np.sqrt(2 * np.pi), 0.6826894921370859
    assert abs(drawn.var() - (1 - 2 * density / mass)) < 2e-3
    assert np.all(np.sign(drawn) == np.sign(latent))
    np.testing.assert_allclose(prior.truncated(latent, 8.0), latent, atol=1e-4)


def test_class_rows_hold_one_class_a_row():
    picture = sheets.class_rows(fake_model(num_classes=3), columns=2)
    size = 4 + 2  # a picture and its gap
    assert picture.shape == (3 * size - 2, 2 * size - 2, 3)
    assert [picture[size * row, 0, 0] for row in range(3)] == [0, 1, 2]
    assert [picture[size * row, size, 0] for row in range(3)] == [0, 1, 2]


def test_truncation_sweep_ends_with_the_untouched_latent():
    model = fake_model()
    picture = sheets.truncation_sweep(model, truncations=(0.1, 1.0), rows=2)
    expected = model.generate(prior.latents(2, 5))
    size = 4 + 2
    assert [picture[size * row, 2 * size, 1] for row in range(2)] == [expected[row, 0, 0, 1] for row in range(2)]
    assert all(abs(int(picture[size * row, 0, 1]) - 128) <= 5 for row in range(2))


def test_reconstructions_are_below_their_images():
    real = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((4, 4, 4, 3), np.uint8)
    encode = lambda image: (np.full((len(image), 5), 1.0, np.float32), None)  # noqa: E731
    picture = sheets.reconstructions(fake_model(encode=encode), real, columns=2)
    size = 4 + 2
    assert [picture[size * row, 0, 0] for row in range(4)] == [0, 0, 2, 0]
    assert [picture[size * row, 0, 1] for row in range(4)] == [0, 178, 2, 178]


def test_a_model_draws_and_encodes_any_number_of_rows_with_its_averages_or_its_last_weights(vae):
    _, config, objective = vae
    latent = prior.latents(7, 16, seed=1)
    image = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    for ema, generator, encoder in (
        (True, objective.ema_generator, objective.ema_discriminator),
        (False, objective.generator, objective.discriminator),
    ):
        model = drawing.of_objective(objective, None, vars(config), {}, ema=ema, replica_batch=3)
        expected = np.clip(np.round((generator(latent).numpy() + 1) * 127.5), 0, 255)
        assert np.abs(model.generate(latent) - expected).max() <= 1
        # One shape: a row's picture does not depend, not even by a bit, on the rows beside it.
        np.testing.assert_array_equal(model.generate(latent[4:5]), model.generate(latent)[4:5])
        mean, log_variance = model.encode(image)
        output = encoder(image / np.float32(127.5) - 1).numpy()
        np.testing.assert_allclose(np.concatenate([mean, log_variance], 1), output, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(model.encode(image[6:])[0], mean[6:])


def test_a_sheet_is_not_drawn_from_a_network_that_draws_nan():
    network = lambda latent: tf.where(latent[:, :1, None, None] > 9, 0.5, np.nan) * tf.ones([1, 4, 4, 3])  # noqa: E731
    model = drawing.Model(None, {"latent_dim": 5}, 0, drawing.drawer(network), None, 0, {})
    with pytest.raises(UserError, match="drew NaN or infinity in 4 of 4 images"):
        sheets.grid(model, rows=2, columns=2)


def test_the_strongest_directions_are_the_linear_layer_s_singular_vectors(make_model):
    for flags, num_classes, moved in (
        ({}, 0, 16),
        ({"latent_dim": 17}, 10, 5),  # BigGAN's first of four chunks, which takes the remainder
        ({"architecture": "biggan_deep"}, 10, 16),
    ):
        generator = make_model("gan", num_classes, **flags)[1].ema_generator
        found = directions.strongest(generator, 4)
        kernel = generator.linear.kernel.numpy()
        kernel = (
            kernel[-moved:] if "architecture" in flags else kernel[:moved]
        )  # there the embedding lies before the latent
        values, vectors = np.linalg.eigh(kernel @ kernel.T)
        assert found.moved == moved and found.vectors.shape == (4, generator.latent_dim)
        np.testing.assert_allclose(found.strengths, np.sqrt(values[::-1][:4]), rtol=1e-4)
        aligned = np.abs(np.sum(found.vectors[:, :moved] * vectors[:, ::-1][:, :4].T, axis=1))
        np.testing.assert_allclose(aligned, 1, atol=1e-3)
        assert not found.vectors[:, moved:].any()


def test_directions_say_which_part_of_the_latent_they_move(make_model, monkeypatch):
    said = []
    monkeypatch.setattr(sheets.images, "captioned", lambda picture, text: said.append(text) or picture)
    settings, objective = make_model("gan", 10, latent_dim=17)
    model = drawing.of_objective(objective, None, vars(settings), {})
    picture = sheets.directions(model, rows=2, columns=3)
    assert "they move 5 of the latent's 17 entries" in said[0] and picture.shape == (66, 100, 3)
    middle = model.generate(prior.latents(1, 17), np.zeros(1, np.int32))[0]
    for row in range(2):  # the step in the middle is the latent itself
        assert np.abs(picture[34 * row : 34 * row + 32, 34:66].astype(int) - middle).max() <= 1


def test_neighbours_are_found_by_pixels_and_by_features(make_split, monkeypatch):
    said = []
    monkeypatch.setattr(sheets.images, "captioned", lambda picture, text: said.append(text) or picture)
    train = make_split(64, resolution=4)
    drawn = np.repeat(train.images[[7, 40]], 1, axis=0)
    monkeypatch.setattr(sheets, "samples", lambda *_: drawn)
    # Features that order the images by their first pixel alone.
    first = lambda images: {"features": np.asarray(images, np.float32)[:, 0, 0, :1]}  # noqa: E731
    kind = kinds.Kind("toy", "toy", None, "none")
    extractor = type(
        "Toy", (), {"kind": kind, "name": "toy", "checksum": "0", "preparation": "", "__call__": lambda _, x: first(x)}
    )()
    picture = sheets.neighbours(fake_model(), train, extractor, None, rows=1, columns=2)
    size = 4 + 2
    cells = [[picture[size * r : size * r + 4, size * c : size * c + 4] for c in range(2)] for r in range(5)]
    pixels = train.images.reshape(64, -1).astype(int)
    colours = train.images[:, 0, 0, 0].astype(int)
    for column, row in enumerate((7, 40)):
        by_pixels = np.argsort(((pixels - pixels[row]) ** 2).sum(1), kind="stable")[:2]
        assert by_pixels[0] == row
        for place in range(2):
            np.testing.assert_array_equal(cells[1 + place][column], train.images[by_pixels[place]])
            gap = abs(int(cells[3 + place][column][0, 0, 0]) - colours[row])
            assert gap == np.sort(np.abs(colours - colours[row]))[place]
    assert "the 2 nearest of 64 training images by pixels; the 2 nearest by the features of toy" in said[0]


def test_the_nearest_rows_do_not_depend_on_the_blocks():
    draw = np.random.default_rng(0)
    points, others = draw.normal(size=(5, 3)), draw.normal(size=(40, 3))
    expected = np.argsort(((points[:, None] - others) ** 2).sum(-1), axis=1)[:, :3]
    for size in (1, 7, 40):
        blocks = [others[start : start + size] for start in range(0, 40, size)]
        np.testing.assert_array_equal(neighbours.nearest(points, blocks, 3), expected)


@pytest.mark.parametrize("name", ["a.webp", "a.png"])
def test_an_animation_is_a_loop_that_holds_its_frames(name, tmp_path):
    frames = list(sheets.animation(fake_model(num_classes=2), rows=2, columns=2, frames=8))
    images.write_animation(tmp_path / name, frames)
    with Image.open(tmp_path / name) as found:
        assert (
            found.n_frames == 8 and found.info["loop"] == 0 and found.format == ("PNG" if name == "a.png" else "WEBP")
        )
        for place, frame in enumerate(frames):
            found.seek(place)
            np.testing.assert_array_equal(np.asarray(found.convert("RGB")), frame)
    ends = prior.latents(4 * 4, 5).reshape(4, 4, 5)
    label = np.array([0, 0, 1, 1], np.int32)
    for leg in range(4):  # every second frame is at a latent
        np.testing.assert_array_equal(
            frames[2 * leg], images.sheet(fake_model(num_classes=2).generate(ends[leg], label), 2)
        )


def test_a_caption_is_below_the_picture_and_as_long_as_it_needs():
    picture = np.full((20, 90, 3), 7, np.uint8)
    short, long = (images.captioned(picture, text) for text in ("one", "one and many more words than that"))
    assert short.shape[1] == 90 and 20 < len(short) < len(long)
    np.testing.assert_array_equal(long[:20], picture)
    assert long[20:].min() < 50 and short[20:].min() < 50
