"""`tfvae.load`: a trained model as one object, from a run and from a published version; the code of docs/python.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfvae
from tfvae.command import UserError
from tfvae.publishing import published

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def gan_run(gan, save_run, tmp_path_factory):
    """A run with the published GAN's weights."""
    return save_run(tmp_path_factory.mktemp("runs") / "gan", gan[1], gan[2])


@pytest.fixture(scope="module")
def vae_run(vae, save_run, tmp_path_factory):
    """A run with the published VAE's weights."""
    return save_run(tmp_path_factory.mktemp("runs") / "vae", vae[1], vae[2])


@pytest.fixture(scope="module")
def loaded_gan(gan_run):
    return tfvae.load(gan_run)


@pytest.fixture(scope="module", params=["run", "version"])
def gan_model(request, gan, loaded_gan):
    return loaded_gan if request.param == "run" else tfvae.load(gan[0])


@pytest.fixture(scope="module", params=["run", "version"])
def vae_model(request, vae, vae_run):
    return tfvae.load(str(vae_run if request.param == "run" else vae[0].parent))


def pixels(network, latent, label=None):
    """The network's own pictures, by NumPy's rounding: float [N, R, R, 3]."""
    drawn = network(tf.constant(latent), None if label is None else tf.constant(label)).numpy()
    return np.clip(np.round((drawn + 1.0) * 127.5), 0, 255)


def test_the_package_is_imported_without_tensorflow_or_keras():
    code = (
        "import sys, tfvae; assert callable(tfvae.load); assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def test_a_model_says_what_it_is(gan_model, vae_model):
    assert (gan_model.resolution, gan_model.latent_dim, gan_model.num_classes, gan_model.images_seen) == (
        32,
        16,
        10,
        56,
    )
    assert re.match("<gan of random, 32 px, latents of 16, 10 classes, without an encoder, 56 images", repr(gan_model))
    assert re.match("<vae of random, 32 px, latents of 16, with an encoder, 56 images seen: /", repr(vae_model))
    assert gan_model.flags["spectral_norm"] and gan_model.facts["weights"].startswith("moving average")


def test_picture_i_is_what_the_endpoint_draws_for_seed_plus_i(gan_model, gan):
    served = published.load(gan[0]).sample(np.int64([5, 6, 7]), np.float32([0.5] * 3), np.int32([3, 1, 9]))
    expected = np.stack([tf.io.decode_png(png).numpy() for png in served]).astype(int)
    drawn = gan_model.sample(seed=5, count=3, label=[3, 1, 9], truncation=0.5)
    assert drawn.dtype == np.uint8 and drawn.shape == (3, 32, 32, 3)
    assert np.abs(drawn - expected).max() <= 1
    again = gan_model.decode(gan_model.latents(seed=5, count=3, truncation=0.5), np.int64([3, 1, 9]))
    assert np.abs(again - expected).max() <= 1


def test_the_classes_take_turns_or_all_pictures_have_one(gan_model):
    turns = gan_model.sample(count=12).astype(int)
    assert turns.shape == (12, 32, 32, 3)
    assert np.abs(turns - gan_model.sample(count=12, label=np.arange(12) % 10)).max() <= 1
    assert np.abs(gan_model.sample(count=2, label=4).astype(int) - gan_model.sample(count=2, label=[4, 4])).max() <= 1


def test_images_are_encoded_and_rebuilt_as_by_the_model_in_memory(vae_model, vae):
    image = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    output = vae[2].ema_discriminator(image / np.float32(127.5) - 1).numpy()
    mean, log_variance = vae_model.posterior(image)
    np.testing.assert_allclose(mean, output[:, :16], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_variance, output[:, 16:], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(vae_model.encode(image), mean)
    rebuilt = vae_model.reconstruct(image)
    assert rebuilt.dtype == np.uint8 and np.abs(rebuilt - pixels(vae[2].ema_generator, output[:, :16])).max() <= 1


def test_an_interpolation_goes_from_one_latent_to_the_other_on_the_sphere(vae_model, vae):
    start, end = vae_model.latents(count=2)
    angle = np.arccos(start @ end / np.linalg.norm(start) / np.linalg.norm(end))
    share = np.linspace(0, 1, 5)[:, None]
    way = (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)
    drawn = vae_model.interpolate(start, end, steps=5)
    assert drawn.shape == (5, 32, 32, 3)
    assert np.abs(drawn - pixels(vae[2].ema_generator, way.astype(np.float32))).max() <= 1


def test_a_run_gives_its_network_and_other_weights_and_leaves_the_callers_precision(make_model, save_run, tmp_path):
    settings, model = make_model("gan", 10, spectral_norm=True, precision="mixed_bfloat16")
    folder = save_run(tmp_path / "run", settings, model)
    keras.config.set_dtype_policy("float32")
    loaded = tfvae.load(folder)
    assert keras.config.dtype_policy().name == "float32"
    z = tf.Variable(loaded.latents(count=2))
    with tf.GradientTape() as tape:
        picture = loaded.network(z, tf.constant([0, 1]))
    assert picture.shape == (2, 32, 32, 3) and np.any(tape.gradient(picture, z).numpy())
    # Of weights that were never trained, far from their pretended average.
    last = tfvae.load(folder, ema=False).sample(count=2).astype(int)
    assert np.abs(last - loaded.sample(count=2)).mean() > 1
    with pytest.raises(UserError, match="best holds no checkpoint"):
        tfvae.load(folder, best=True)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda m: m.sample(count=0), "count=0: expected 1 or more"),
        (lambda m: m.sample(seed=2**63 - 1, count=2), "seed=9223372036854775807: expected an int64"),
        (lambda m: m.sample(truncation=0), "truncation=0: expected more than 0, or None"),
        (lambda m: m.sample(count=2, label=10), "label: 10 to 10: expected a class from 0 to 9"),
        (lambda m: m.sample(count=2, label=[1, 2, 3]), "expected a class from 0 to 9, or one for each of 2 pictures"),
        (lambda m: m.sample(label=1.5), "label: float64 []: expected a class"),
        (lambda m: m.decode(np.zeros([2, 16])), "label is missing: expected a class from 0 to 9"),
        (lambda m: m.decode(np.zeros([2, 15]), 0), "z: float [2, 15]: expected finite numbers of the shape [N, 16]"),
        (lambda m: m.decode(np.full([2, 16], np.nan), 0), "z: float [2, 16]: expected finite numbers"),
        (lambda m: m.interpolate(np.zeros(16), np.zeros(16), 1, 0), "steps=1: expected 2 or more"),
        (lambda m: m.interpolate(np.zeros([2, 16]), np.zeros([2, 16]), 2, 0), "expected one latent each, [16]"),
        (lambda m: m.encode(np.zeros([1, 32, 32, 3], np.uint8)), "has no encoder (objective gan): expected a model"),
        (
            lambda m: m.reconstruct(np.zeros([1, 32, 32, 3], np.uint8)),
            "has no encoder (objective gan): expected a model",
        ),
    ],
)
def test_what_a_model_cannot_do_is_one_line(call, line, loaded_gan):
    with pytest.raises((ValueError, UserError)) as error:
        call(loaded_gan)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_images_of_another_shape_and_labels_without_classes_are_refused(vae_model):
    with pytest.raises(ValueError, match=r"images: float64 \[1, 32, 32, 3\]: expected uint8 \[N, 32, 32, 3\]"):
        vae_model.encode(np.zeros([1, 32, 32, 3]))
    with pytest.raises(ValueError, match=r"images: uint8 \[32, 32, 3\]: expected uint8 \[N, 32, 32, 3\]"):
        vae_model.encode(np.zeros([32, 32, 3], np.uint8))
    with pytest.raises(ValueError, match="the model was trained without labels: expected None"):
        vae_model.sample(label=0)


def test_what_is_neither_a_run_nor_a_version_is_named(vae, tmp_path):
    with pytest.raises(UserError, match="^no run of tfvae.train is there, and /nowhere is not a folder: expected"):
        tfvae.load("/nowhere")
    with pytest.raises(UserError, match="^no run of tfvae.train is there, and .* holds no published version"):
        tfvae.load(tmp_path)
    with pytest.raises(ValueError, match="is no run: expected ema=True and best=False"):
        tfvae.load(vae[0], best=True)


def test_the_code_of_the_guide_runs(make_model, save_run, shapes_home, tmp_path, monkeypatch, capsys):
    settings, model = make_model("vae", 10, dataset="shapes", encoder_head="flatten")
    save_run(tmp_path / "runs/shapes_vae", settings, model)
    monkeypatch.setenv("TFDS_DATA_DIR", str(shapes_home))
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/python.md").read_text()
    blocks = re.findall("^```python\n(.*?)^```$", text, re.M | re.S)
    assert len(blocks) >= 8
    names = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)  # each goes on from those before it
    assert capsys.readouterr().out.startswith("<vae of shapes, 32 px, latents of 16, 10 classes, with an encoder")
    assert np.asarray(Image.open("way.png")).shape == names["sheet"].shape
    assert names["again"].shape == (8, 32, 32, 3) and names["gradient"].shape == (4, 16)
    assert names["objective"].images_seen == 16
