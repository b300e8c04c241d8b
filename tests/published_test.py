"""A published version as a drawing model, and the sheets that are drawn from one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae.command import UserError
from tfvae.publishing import published


def pixels(network, latent, label=None):
    """The network's own pictures, by NumPy's rounding: float [N, R, R, 3]."""
    drawn = network(tf.constant(latent), None if label is None else tf.constant(label)).numpy()
    return np.clip(np.round((drawn + 1.0) * 127.5), 0, 255)


def test_a_loaded_version_knows_what_it_is(gan, vae):
    model = published.load(gan[0])
    assert (model.path, model.resolution, model.latent_dim, model.num_classes) == (gan[0], 32, 16, 10)
    assert model.encode is None and model.images_seen == 56 and model.flags["spectral_norm"]
    weights = "moving average, batch-norm statistics measured anew"
    assert model.facts == {"saved_model": "gan", "flags": model.flags, "images_seen": 56, "weights": weights}
    model = published.load(vae[0])
    assert model.num_classes == 0 and model.facts["encoder_weights"] == "moving average"


def test_any_number_of_pictures_is_drawn_as_by_the_model_in_memory(gan, vae):
    draw = np.random.default_rng(0)
    latent, label = draw.standard_normal((70, 16)).astype(np.float32), (np.arange(70) % 10).astype(np.int32)
    drawn = published.load(gan[0]).generate(latent, label)
    assert drawn.dtype == np.uint8
    assert np.abs(drawn - pixels(gan[2].ema_generator, latent, label)).max() <= 1
    drawn = published.load(vae[0]).generate(latent)
    assert np.abs(drawn - pixels(vae[2].ema_generator, latent)).max() <= 1


def test_what_is_drawn_or_encoded_does_not_depend_on_how_many_are(vae):
    model, draw = published.load(vae[0]), np.random.default_rng(0)
    latent = draw.standard_normal((70, 16)).astype(np.float32)
    image = draw.integers(0, 256, (70, 32, 32, 3)).astype(np.uint8)
    drawn, encoded = model.generate(latent), model.encode(image)
    for number in (1, 3, 64, 65):
        np.testing.assert_array_equal(model.generate(latent[:number]), drawn[:number])
        for some, all_of_them in zip(model.encode(image[:number]), encoded):
            np.testing.assert_array_equal(some, all_of_them[:number])


@pytest.mark.parametrize("name", ["a [2]", "[a-z]*?\\{b,c}"])
def test_a_version_is_read_whatever_its_path_is_called(name, vae, tmp_path, monkeypatch):
    shutil.copytree(vae[0], tmp_path / name / "vae" / "1")
    monkeypatch.chdir(tmp_path / name)
    latent = np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)
    expected = pixels(vae[2].ema_generator, latent)
    for path in ("vae", tmp_path / name / "vae" / "1"):
        assert np.abs(published.load(path).generate(latent) - expected).max() <= 1


def test_pictures_are_encoded_as_by_the_model_in_memory(vae):
    image = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3)).astype(np.uint8)
    output = vae[2].ema_discriminator(image / np.float32(127.5) - 1).numpy()
    mean, log_variance = published.load(vae[0]).encode(image)
    np.testing.assert_allclose(mean, output[:, :16], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_variance, output[:, 16:], rtol=1e-4, atol=1e-4)


def test_of_a_folder_of_versions_the_newest_is_taken(gan, tmp_path):
    for number in (2, 10):
        shutil.copytree(gan[0], tmp_path / "gan" / str(number))
    (tmp_path / "gan" / f".11.{'0' * 32}.tmp").mkdir()
    (tmp_path / "gan" / "12").write_text("no version")
    assert published.load(tmp_path / "gan").path == tmp_path / "gan" / "10"
    assert published.load(tmp_path / "gan" / "2").path == tmp_path / "gan" / "2"


def test_what_is_no_version_is_named_with_what_was_expected(gan, tmp_path):
    with pytest.raises(UserError, match="/nowhere is not a folder: expected a published version"):
        published.load("/nowhere")
    with pytest.raises(UserError, match="holds no published version: expected .*tfvae.json.* python -m tfvae.export"):
        published.load(tmp_path)
    damaged = Path(shutil.copytree(gan[0], tmp_path / "gan" / "1"))
    (damaged / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(UserError, match="gan/1 cannot be loaded .* expected a version that tfvae.export published"):
        published.load(damaged)
    (damaged / "assets.extra" / "tfvae.json").write_text(json.dumps({"name": "gan"}))
    with pytest.raises(UserError, match="gan/1 cannot be loaded"):
        published.load(tmp_path / "gan")


def test_sheets_are_drawn_from_a_published_version(gan, run_command, tmp_path):
    folder = Path(shutil.copytree(gan[0], tmp_path / "gan" / "3")).parent
    output = run_command("sample", f"--saved_model={folder}", "--rows=2", "--columns=3")
    sheets = {path.stem: np.asarray(Image.open(path)).astype(int) for path in (folder / "sheets" / "3").iterdir()}
    assert sheets.keys() == {"grid", "classes", "interpolations", "truncation"}
    assert all(f"{folder}/sheets/3/{name}.png  (" in output for name in sheets)
    # The first picture of each class: its latent is a row of TensorFlow's own stateless normal of the seed.
    latent = tf.random.stateless_normal([30, 16], [0, 0], alg="philox").numpy()
    label = np.repeat(np.arange(10), 3).astype(np.int32)
    expected = pixels(gan[2].ema_generator, latent, label)
    for row in range(10):
        assert np.abs(sheets["classes"][34 * row : 34 * row + 32, :32] - expected[3 * row]).max() <= 1
    with pytest.raises(UserError, match="grid.png exists: give another --output_dir, or --overwrite to replace it"):
        run_command("sample", f"--saved_model={folder}")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--saved_model=A", "--model_dir=B"], "--model_dir and --saved_model: both are given. Expected one of them"),
        ([], "--model_dir and --saved_model: both are missing. Expected one of them"),
        (["--saved_model=A", "--noema"], "--noema: a published model has the moving average alone"),
        (["--saved_model=A", "--sheets=grid,all"], "--sheets=all: expected some of grid, classes"),
        (["--saved_model=A"], "A is not a folder: expected a published version"),
        (["--saved_model=GAN", "--sheets=reconstructions"], "cannot draw it (classes need labels, reconstructions an"),
    ],
)
def test_what_sample_cannot_do_is_one_line(arguments, line, gan, run_command):
    with pytest.raises(UserError) as error:
        run_command("sample", *[argument.replace("GAN", str(gan[0])) for argument in arguments])
    assert line in str(error.value) and "\n" not in str(error.value)
