"""The classifier of single channels: what it learns, how it is applied to three, and the commands that make and use it."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from tfvae.data import pipeline, shapes, stacked
from tfvae.scoring import channels, classifier, extractors


@pytest.fixture(scope="module")
def pictures():
    """64 single shapes, float32 [64, 32, 32, 1], and their kinds."""
    kinds = np.arange(64) % 10
    words = np.random.default_rng(0).integers(0, 2**32, (64, 4))
    return np.float32(255 * shapes.coverage(kinds, **shapes.placed(words))[..., None]), kinds.astype(np.int32)


def test_the_blur_is_scipys(pictures):
    made = channels.blurred(tf.constant(pictures[0]), 1.5)
    expected = scipy.ndimage.gaussian_filter(pictures[0], [0, 1.5, 1.5, 0], mode="constant")
    np.testing.assert_allclose(made, expected, atol=0.1)


def test_a_quarter_each_is_blurred_noisy_without_an_object_and_as_it_is(pictures):
    image, label = channels.augment(
        {"image": tf.constant(np.uint8(np.round(pictures[0]))), "label": tf.constant(pictures[1])}
    )
    image, label = image.numpy().astype(float), label.numpy()
    assert image.shape == (64, 32, 32, 1) and image.min() == 0 and image.max() == 255
    rest = np.r_[0:32, 48:64]
    np.testing.assert_array_equal(label[rest], pictures[1][rest])
    assert (label[32:48] == 10).all()  # neighbours are never of one kind here
    # The last quarter was moved alone, by up to two px.
    moved = [np.roll(np.round(pictures[0][48:]), (i, j), (1, 2)) for i in range(-2, 3) for j in range(-2, 3)]
    assert min(np.abs(image[48:] - one).mean() for one in moved) < 1
    roughness = [np.abs(np.diff(image[rows], axis=1)).mean() for rows in (range(16), range(16, 32), range(48, 64))]
    assert roughness[0] < roughness[2] < roughness[1]


def test_a_mixture_of_one_kind_is_no_mixture(pictures):
    same = tf.zeros([64], tf.int32)
    made, is_none = channels.without_object(tf.constant(pictures[0]), same)
    assert made.shape == pictures[0].shape and 10 < np.count_nonzero(~is_none.numpy()) < 54
    made, is_none = channels.without_object(tf.constant(pictures[0]), tf.constant(pictures[1]))
    assert is_none.numpy().all() and np.isfinite(made).all()


def test_one_network_answers_for_each_channel_by_itself():
    network = classifier.make_network(32, 11, 2, channels=1)
    images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    outputs = channels.make_extractor(network)(images)
    assert outputs["features"].shape == (7, 48)
    kernel, bias = network.get_layer("logits").get_weights()
    for channel in range(3):
        logits = network(images[..., channel : channel + 1])
        np.testing.assert_allclose(outputs["logits"][:, channel], logits, rtol=1e-3, atol=1e-4)
        features = outputs["features"][:, 16 * channel : 16 * (channel + 1)]
        np.testing.assert_allclose(features @ kernel + bias, logits, rtol=1e-3, atol=1e-4)


def test_accuracies_are_of_pictures_as_they_are_blurred_noisy_and_without_an_object(make_split, pictures):
    held_out = dataclasses.replace(
        make_split(64, num_classes=10), images=np.uint8(np.round(pictures[0])), labels=pictures[1]
    )

    class AlwaysNone:
        def predict(self, images, **_):
            assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 1)
            return np.tile(np.arange(11.0), (len(images), 1))

    found = channels.accuracies(AlwaysNone(), held_out)
    assert found == {
        "accuracy": 0,
        "accuracy_blurred": 0,
        "accuracy_noisy": 0,
        "mixtures_told_none": 1,
        "blobs_told_none": 1,
        "noise_told_none": 1,
    }


@pytest.mark.filterwarnings("ignore")
def test_train_classifier_and_evaluate_count_modes(run_command, tmp_path, monkeypatch):
    monkeypatch.setattr(stacked, "NUM_IMAGES", {"train": 200, "test": 60})
    arguments = ["--dataset=stacked_shapes/zipf", f"--data_dir={tmp_path}"]
    made = ["--epochs=1", "--base_channels=2", "--batch_size=32"]
    said = run_command("train_classifier", *arguments, *made, f"--output_dir={tmp_path / 'classifier'}")
    facts = json.loads((tmp_path / "classifier" / "classifier.json").read_text())
    assert facts["class_names"] == [*shapes.SHAPE_NAMES, "none"] and facts["single_channels"]
    assert {"accuracy", "accuracy_blurred", "accuracy_noisy", "mixtures_told_none"} <= set(facts)
    assert "accuracy_blurred" in said

    evaluated = ["--split=test", f"--classifier_dir={tmp_path / 'classifier'}", "--num_images=40"]
    output = tmp_path / "scores.json"
    said = run_command("evaluate", *arguments, *evaluated, f"--output={output}", f"--cache_dir={tmp_path / 'cache'}")
    found = json.loads(output.read_text())
    extractor = extractors.load(classifier_dir=tmp_path / "classifier")
    test = pipeline.load("stacked_shapes/zipf", "test", data_dir=tmp_path)
    rows = np.sort(np.random.default_rng([0, 3]).permutation(60)[:40])  # as --split=test chooses
    answers = extractor(test.images[rows])["kinds"]
    recognised = answers[(answers < 10).all(axis=1)]
    assert found["scores"]["modes_found"]["mean"] == len(np.unique(recognised, axis=0))
    assert found["scores"]["unrecognised"]["mean"] == pytest.approx(1 - len(recognised) / 40)
    assert found["modes"]["held_out_images"] == 40
    assert {"modes_found", "unrecognised"} <= set(found["modes"]["held_out"])
    assert list(found["modes"]["marginals"]) == ["nominal", "drawn", "held_out"]
    assert len(found["modes"]["marginals"]["drawn"]["green"]) == 10
    (line,) = (line for line in said.splitlines() if line.strip().startswith("modes_found"))
    assert "more is better; 40 held-out images" in line
