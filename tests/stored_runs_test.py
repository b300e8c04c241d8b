"""Runs and published versions that older versions of this project made: they load, and draw what they drew then.

`stored_runs/format_N.tar.xz` was made by the newest version whose config.json has that format, with tiny networks: a GAN with
labels, a VAE of BigGAN-deep with a learned variance, a GAN at 45 px whose generator alone has a non-local block, the first two
published, and in `expected.npz` what each drew and encoded.
"""

import json

import numpy as np
import pytest

from tfvae.drawing import prior
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
