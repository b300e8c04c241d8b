"""Runs and published versions that older versions of this project made: they load, and draw what they drew then.

`stored_runs/format_N.tar.xz` was made by the newest version whose config.json has that format, with tiny networks: a GAN with
labels, a VAE of BigGAN-deep with a learned variance, a GAN at 45 px whose generator alone has a non-local block, the first two
published, and in `expected.npz` what each drew and encoded. Those of format 1, a GAN and a VAE whose checkpoints have no count of
images, were cut short: `expected.npz` holds the weights that the version that made them ended with too.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae.drawing import prior
from tfvae.networks.network import named_weights
from tfvae.publishing import published
from tfvae.training import run

LATENT = prior.latents(4, 8, 0)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)


def labels_of(model):
    return np.arange(4, dtype=np.int32) if model.num_classes else None


def assert_drawn(picture, expected):
    """But for a grey level: another processor rounds otherwise."""
    assert np.abs(picture.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", ["gan", "vae", "half_attention"])
@pytest.mark.parametrize("ema", [True, False])
def test_a_run_of_format_0_draws_what_it_drew(name, ema, format_0):
    expected = np.load(format_0 / "expected.npz")
    model = run.load_run(format_0 / name, ema=ema)
    assert_drawn(model.generate(LATENT, labels_of(model)), expected[name if ema else f"{name}_raw"])


def test_a_vae_of_format_0_encodes_with_its_last_weights_and_says_so(format_0):
    expected = np.load(format_0 / "expected.npz")
    model = run.load_run(format_0 / "vae")
    mean, log_variance = model.encode(IMAGES)
    np.testing.assert_allclose(mean, expected["vae_mean"], atol=1e-4)
    np.testing.assert_allclose(log_variance, expected["vae_log_variance"], atol=1e-4)
    assert model.facts["weights"].startswith("moving average")
    assert model.facts["encoder_weights"] == "of the last step"


@pytest.mark.parametrize("name", ["gan", "vae"])
def test_a_version_published_at_format_0_draws_what_it_drew(name, format_0):
    model = published.load(format_0 / "published" / name)
    expected = np.load(format_0 / "expected.npz")
    assert model.facts.get("encoder_weights") == {"gan": None, "vae": "of the last step"}[name]
    assert_drawn(model.generate(LATENT, labels_of(model)), expected[f"published_{name}"])


def test_flags_of_other_objectives_that_format_0_ignored_do_not_hinder(format_0, tmp_path):
    record = json.loads((format_0 / "vae" / "config.json").read_text())
    assert "format" not in record
    record["flags"] |= {"augment": ["typo"], "discriminator_steps": 2, "loss": "hinge"}
    (tmp_path / "config.json").write_text(json.dumps(record))
    config, _ = run.RunDirectory(tmp_path).read_config()
    assert (config.augment, config.discriminator_steps, config.images_per_step) == ((), 1, config.batch_size)


def test_a_side_without_a_stage_is_no_non_local_block_and_one_of_a_single_network_stays(format_0):
    sides = {
        name: run.RunDirectory(format_0 / name).read_config()[0].attention_resolution
        for name in ("gan", "half_attention")
    }
    assert sides == {"gan": 0, "half_attention": 16}


@pytest.mark.parametrize("name", ["gan", "vae"])
def test_a_run_of_format_1_draws_what_it_drew_and_has_seen_steps_x_batch(name, format_1):
    expected = np.load(format_1 / "expected.npz")
    model = run.load_run(format_1 / name)
    label = np.array([0, 1, 0, 1], np.int32) if model.num_classes else None
    assert_drawn(model.generate(LATENT, label), expected[f"{name}_drawn"])
    assert model.images_seen == {"gan": 64, "vae": 56}[name]
    if name == "vae":
        np.testing.assert_allclose(model.encode(IMAGES)[0], expected["vae_mean"], atol=1e-4)


@pytest.fixture
def pictures(tmp_path):
    """The images that the runs of format 1 were trained on."""
    for i in range(24):
        file = tmp_path / "pictures" / ("one", "two")[i % 2] / f"{i:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(file)
    return f"--dataset=folder:{tmp_path / 'pictures'}"


def test_a_vae_of_format_1_goes_on_to_the_weights_that_its_version_ended_with(format_1, pictures, run_command):
    expected = np.load(format_1 / "expected.npz")
    flags = (
        "base_channels=1 latent_dim=8 shared_embedding_dim=4 batch_size=8 train_images=96 log_every_images=16".split()
    )
    flags += "sample_every_images=0 generator_learning_rate=2e-3 discriminator_learning_rate=1e-3".split()
    flags += "objective=vae kl_warmup_images=96 decoder_variance=learned noconditional".split()

    def weights_of_run():
        model = run.load(format_1 / "vae")[2]
        return {f"vae:{key}": weight.numpy() for key, weight in named_weights(model).items()}

    before = weights_of_run()
    output = run_command("train", pictures, *(f"--{flag}" for flag in flags), f"--model_dir={format_1 / 'vae'}")
    assert "96 images to see = 4.0 epochs = 12 steps" in output
    assert "resumed at 56" in output and "Done: 96 images seen" in output
    assert json.loads((format_1 / "vae" / "config.json").read_text())["format"] == run.FORMAT
    weights = weights_of_run()
    names = [key for key in expected.files if key.startswith("vae:")]
    assert len(names) > 40
    # Together: a bias before a batch norm has no gradient but rounding, which Adam turns into steps that no two machines share.
    change, difference = (
        np.sqrt(sum(np.sum((expected[key] - other[key]) ** 2) for key in names)) for other in (before, weights)
    )
    assert difference < 0.05 * change


def test_moments_of_format_1_are_restored_and_the_rates_decay_from_its_images(format_1):
    _, _, model = run.load(format_1 / "gan")
    reader = tf.train.load_checkpoint(str(format_1 / "gan" / "checkpoints" / "ckpt-64"))
    moments = model.discriminator_optimizer.variables
    assert (moments[0].name, int(moments[0].numpy())) == ("iteration", 8)
    for i, moment in enumerate(moments[1:], 1):  # the rates decay, so that they are no variable
        key = f"objective/discriminator_optimizer/_variables/{i}/.ATTRIBUTES/VARIABLE_VALUE"
        np.testing.assert_array_equal(moment.numpy(), reader.get_tensor(key))
    # From 2e-3 and 1e-3 at 16 images to 0 at 96.
    rates = [float(o.learning_rate) for o in (model.generator_optimizer, model.discriminator_optimizer)]
    assert rates == pytest.approx([2e-3 * 32 / 80, 1e-3 * 32 / 80])
    assert (int(model.step), model.images_seen) == (4, 64)
