"""A published version as functions of arrays, and the sheets that are drawn from one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae.command import UserError
from tfvae.publishing import published

ROOT = Path(__file__).resolve().parent.parent


def pixels(network, latent, label=None):
    """The network's own pictures, by NumPy's rounding: float [N, R, R, 3]."""
    drawn = network(tf.constant(latent), None if label is None else tf.constant(label)).numpy()
    return np.clip(np.round((drawn + 1.0) * 127.5), 0, 255)


def test_a_loaded_version_knows_what_it_is(gan, vae):
    model = published.load(gan[0])
    assert (model.objective, model.resolution, model.latent_dim, model.num_classes) == ("gan", 32, 16, 10)
    assert model.class_names == tuple(f"class {i}" for i in range(10))
    assert model.encode is None
    assert model.facts["images_seen"] == 56
    model = published.load(vae[0])
    assert (model.objective, model.num_classes, model.class_names) == ("vae", 0, ())


def test_any_number_of_pictures_is_drawn_as_by_the_model_in_memory(gan, vae):
    draw = np.random.default_rng(0)
    latent, label = draw.standard_normal((70, 16)).astype(np.float32), (np.arange(70) % 10).astype(np.int32)
    drawn = published.load(gan[0]).generate(latent, label)
    assert drawn.dtype == np.uint8
    assert np.abs(drawn - pixels(gan[2].ema_generator, latent, label)).max() <= 1
    drawn = published.load(vae[0]).generate(latent[:3])
    assert np.abs(drawn - pixels(vae[2].ema_generator, latent[:3])).max() <= 1


def test_pictures_are_encoded_as_by_the_model_in_memory(vae):
    image = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3)).astype(np.uint8)
    output = vae[2].ema_discriminator(image / np.float32(127.5) - 1).numpy()
    mean, log_variance = published.load(vae[0]).encode(image)
    np.testing.assert_allclose(mean, output[:, :16], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_variance, output[:, 16:], rtol=1e-4, atol=1e-4)


def test_of_a_folder_of_versions_the_newest_is_taken(gan, tmp_path):
    for number in (2, 10):
        shutil.copytree(gan[0], tmp_path / "gan" / str(number))
    (tmp_path / "gan" / ".tmp-11-1").mkdir()
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


def sample(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", "tfvae.sample", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_sheets_are_drawn_from_a_published_version(gan, tmp_path):
    folder = Path(shutil.copytree(gan[0], tmp_path / "gan" / "3")).parent
    result = sample(f"--saved_model={folder}", "--rows=2", "--columns=3")
    assert result.returncode == 0, result.stderr
    sheets = {path.stem: np.asarray(Image.open(path)).astype(int) for path in (folder / "sheets" / "3").iterdir()}
    assert sheets.keys() == {"grid", "classes", "interpolations", "truncation"}
    # The first picture of each class: its latent is a row of TensorFlow's own stateless normal of the seed.
    latent = tf.random.stateless_normal([30, 16], [0, 0], alg="philox").numpy()
    label = np.repeat(np.arange(10), 3).astype(np.int32)
    expected = pixels(gan[2].ema_generator, latent, label)
    for row in range(10):
        assert np.abs(sheets["classes"][34 * row : 34 * row + 32, :32] - expected[3 * row]).max() <= 1


def test_a_run_and_a_published_version_at_once_are_refused_with_one_line():
    result = sample("--saved_model=A", "--model_dir=B")
    assert result.returncode == 1
    assert "--model_dir and --saved_model: both are given. Expected one of them" in result.stderr
    assert "Traceback" not in result.stderr
