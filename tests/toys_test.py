"""An objective, a dataset, a score and an extractor of a test's own go through every command: each is one record, no more.

What the test adds is what anybody would add: an entry in `build.OBJECTIVES`, `datasets.DATASETS`, `scores.SCORES` and
`extractors.EXTRACTORS`. Nothing in `tfvae/` knows these four.
"""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tfvae.data import datasets
from tfvae.objectives import losses
from tfvae.objectives.objective import Objective
from tfvae.publishing import published
from tfvae.scoring import extractors, kinds, scores
from tfvae.studies import plan, results, tables
from tfvae.training import build, run


class Autoencoder(Objective):
    """A plain autoencoder: the squared error alone, without a prior."""

    title = "Autoencoder"
    network_titles = ("decoder", "encoder")
    progress_logs = ("squared_error",)

    @classmethod
    def discriminator_head(cls, config, num_classes):
        return dict(output_dim=config.latent_dim)

    @classmethod
    def step_flops(cls, config, generator, discriminator):
        return 3 * (generator + discriminator)

    def encode(self, image, training=False, encoder=None):
        code = (encoder or self.discriminator)(image, training=training)
        return code, tf.fill(tf.shape(code), -20.0)

    def train_step(self, batches):
        image = self.real_images(batches[0], 0)
        label = batches[0]["label"] if self.generator.num_classes else None
        decoder, encoder = self.generator_weights, self.discriminator_weights
        with tf.GradientTape() as tape:
            error = losses.squared_error(image, self.generator(self.encode(image, True)[0], label, training=True))
            loss = self.global_mean(error)
        gradients = tape.gradient(loss, decoder + encoder)
        norm = self.update(self.generator_optimizer, gradients[: len(decoder)], decoder)
        self.update(self.discriminator_optimizer, gradients[len(decoder) :], encoder)
        self.finish_step()
        return {"squared_error": tf.reduce_mean(error), "generator_gradient_norm": norm}

    def statistics_inputs(self, images, labels, index):
        code, _ = self.encode(tf.cast(images, tf.float32) / 127.5 - 1.0, training=True, encoder=self.ema_discriminator)
        return code, labels if self.generator.num_classes else None


class Stripes(tfds.core.GeneratorBasedBuilder):
    """Stripes across or down, of any width."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=["across", "down"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 40), "test": self._generate_examples(40, 60)}

    def _generate_examples(self, start, end):
        for i in range(start, end):
            stripes = np.broadcast_to((np.arange(32) // (1 + i % 7) % 2 * 200 + i)[:, None, None], (32, 32, 3))
            yield i, {"image": (stripes if i % 2 else stripes.swapaxes(0, 1)).astype(np.uint8), "label": 1 - i % 2}


def load_mean_colours(kind, folder):
    @tf.function
    def means(images):
        colours = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2]) / 255.0
        return {"features": colours, "logits": tf.concat([colours, 1.0 - colours], -1)}

    return kinds.Extractor(kind, "mean colours", "0" * 64, means)


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setitem(build.OBJECTIVES, "autoencoder", Autoencoder)
    monkeypatch.setitem(
        datasets.DATASETS,
        "stripes",
        datasets.Dataset("stripes", "Stripes", "stripes across or down", Stripes, resolution=32),
    )
    kind = kinds.Kind("mean_colours", "mean colours", load_mean_colours, "none: it has no weights")
    monkeypatch.setitem(extractors.EXTRACTORS, "mean_colours", kind)
    brightness = scores.Score(
        "brightness_gap",
        lambda given: float(abs(given.real.features.mean() - given.fake.features.mean())),
        "brightness gap",
        "less",
        scores.FIDELITY,
    )
    monkeypatch.setitem(scores.SCORES, "brightness_gap", brightness)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.filterwarnings("ignore")
def test_one_record_each_goes_through_train_sample_evaluate_export_and_a_study_s_tables(toys, run_command, tmp_path):
    model_dir, data_dir = tmp_path / "run", tmp_path / "data"
    tiny = ["--base_channels=4", "--latent_dim=8", "--batch_size=8", "--log_every_images=16", "--sample_every_images=0"]
    said = run_command(
        "train",
        "--objective=autoencoder",
        "--dataset=stripes",
        "--extractor=mean_colours",
        "--eval_every_images=16",
        "--eval_images=20",
        "--train_images=32",
        f"--data_dir={data_dir}",
        f"--model_dir={model_dir}",
        *tiny,
    )
    assert "Autoencoder of biggan, stripes at 32 px, 40 images" in said and "Done: 32 images seen" in said
    curve = [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
    assert {"squared_error", "brightness_gap"} <= {name for row in curve for name in row}
    assert list(model_dir.glob("samples/*_reconstructions.png"))

    said = run_command("sample", f"--model_dir={model_dir}")
    assert Image.open(model_dir / "sheets" / "reconstructions.png").size[0] > 200 and "held-out" in said

    said = run_command("evaluate", f"--model_dir={model_dir}", "--extractor=mean_colours", "--num_images=20")
    found = json.loads((model_dir / "scores.json").read_text())
    assert "brightness_gap" in said and found["scores"]["brightness_gap"]["mean"] >= 0
    assert found["protocol"]["extractor"]["name"] == "mean colours"
    assert found["reconstruction"]["scores"]["squared_error"] > 0
    assert found["likelihood"]["labels"] == "given to the decoder"
    assert (
        found["likelihood"]["scores"]["elbo_bits_per_dimension"] > 0
        and len(found["likelihood"]["kl_by_dimension"]) == 8
    )

    run_command("export", f"--model_dir={model_dir}", f"--export_dir={tmp_path / 'published' / 'stripes'}")
    version = published.load(tmp_path / "published" / "stripes")
    again = run.load_run(model_dir)
    latent, label = np.zeros([3, 8], np.float32), np.int32([0, 1, 0])
    assert np.abs(version.generate(latent, label).astype(int) - again.generate(latent, label)).max() <= 1
    image = np.zeros([2, 32, 32, 3], np.uint8)
    np.testing.assert_allclose(version.encode(image)[0], again.encode(image)[0], rtol=1e-3, atol=1e-3)

    (one,) = plan.read_experiments(["main/stripes_autoencoder: --objective=autoencoder --dataset=stripes"], "full", {})
    assert one.label == "Autoencoder" and one.objective is Autoencoder
    row = results.Row(one, "normal", found, "", {"seconds": {}, "peak_memory_mb": {}}, {}, 32, curve, 40, True, {})
    table = tables.variety([row], {})
    assert "brightness gap" in table and "| Autoencoder |" in table
    assert "squared error" in tables.reconstructions([row])
