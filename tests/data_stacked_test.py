"""Tests of tfvae.data.stacked: images of three objects, whose modes are known."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tfvae.data import datasets, pipeline, shapes, stacked

SIZES = {"train": 90, "test": 40}


def write_mnist(home, order=0):
    """A prepared `mnist` of six training and two test digits of each kind; no two are alike."""
    draw = np.random.default_rng(7)
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
    )
    parts = {}
    for split, number in (("train", 60), ("test", 20)):
        images = draw.integers(0, 256, (number, 28, 28, 1)).astype(np.uint8)
        rows = np.random.default_rng(order).permutation(number)
        parts[split] = tf.data.Dataset.from_tensor_slices({"image": images[rows], "label": rows % 10})
    tfds.dataset_builders.store_as_tfds_dataset(
        "mnist", version="3.0.1", features=features, split_datasets=parts, data_dir=home
    )
    return home


@pytest.fixture(scope="module")
def small():
    """Few images a split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stacked, "NUM_IMAGES", SIZES)
        yield


@pytest.fixture(scope="module")
def home(small, tmp_path_factory):
    """A data folder with a toy `mnist`, in which stacked datasets are prepared as tests need them."""
    return write_mnist(tmp_path_factory.mktemp("stacked"))


EVERY_NAME = pytest.mark.parametrize(
    "name", ["stacked_shapes", "stacked_shapes/zipf", "stacked_mnist", "stacked_mnist/zipf"]
)


# Frequencies.


def test_zipfs_frequencies_fall_with_the_rank_in_an_order_that_does_not():
    found = stacked.frequencies("zipf")
    harmonic = sum(1 / rank for rank in range(1, 1001))
    np.testing.assert_allclose(np.sort(found)[::-1], [1 / rank / harmonic for rank in range(1, 1001)], rtol=1e-8)
    assert abs(np.corrcoef(np.arange(1000), np.argsort(-found))[0, 1]) < 0.1
    np.testing.assert_allclose(stacked.frequencies("uniform"), 0.001)


@pytest.mark.parametrize("config", ["uniform", "zipf"])
def test_kinds_are_drawn_with_their_frequencies(config):
    for split, number in stacked.NUM_IMAGES.items():
        kinds, _ = stacked.drawn_kinds(config, split, number)
        count = np.bincount(kinds @ [100, 10, 1], minlength=1000)
        expected = number * stacked.frequencies(config)
        # Chi-squared of 999 degrees of freedom: 999 and a spread of 45.
        assert 850 < np.sum((count - expected) ** 2 / expected) < 1150


def test_the_bytes_are_the_same_on_every_machine(home):
    digests = {}
    for config in ("uniform", "zipf"):
        for split in ("train", "test"):
            kinds, words = stacked.drawn_kinds(config, split, 500)
            digests[config, split] = hashlib.sha256(kinds.tobytes() + words.tobytes()).hexdigest()[:16]
    assert digests == {
        ("uniform", "train"): "f3981ee8b5ffd692",
        ("uniform", "test"): "36aba8f17bf918d4",
        ("zipf", "train"): "48c3f561506907e3",
        ("zipf", "test"): "956c82f74c048c5f",
    }
    images = pipeline.load("stacked_shapes", data_dir=home).images
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == "5abf1d90859b54da"


# What is prepared.


@EVERY_NAME
def test_images_have_no_labels_and_keep_the_kind_in_each_channel(name, home):
    for split, number in SIZES.items():
        loaded = pipeline.load(name, split, data_dir=home)
        assert loaded.images.shape == (number, 32, 32, 3) and loaded.num_classes == 0 and loaded.notes == ()
        config = name.partition("/")[2] or "uniform"
        np.testing.assert_array_equal(loaded.factors["kinds"], stacked.drawn_kinds(config, split, number)[0])
    assert pipeline.held_out_split(name, data_dir=home) == "test"


def test_each_configuration_has_a_folder_of_its_own(home):
    for name in ("stacked_shapes", "stacked_shapes/zipf"):
        config = name.partition("/")[2] or "uniform"
        assert pipeline.prepare(name, home) == home / "stacked_shapes" / config / "1.0.0"


def test_shapes_are_white_on_black_and_drawn_from_the_factors_that_are_kept(home):
    loaded = pipeline.load("stacked_shapes", data_dir=home)
    assert loaded.images.min() == 0 and loaded.images.max() == 255
    factors = {name: loaded.factors[name] for name in ("size", "x", "y", "rotation")}
    for channel in range(3):
        drawn = {name: values[:, channel] for name, values in factors.items()}
        covered = shapes.coverage(loaded.factors["kinds"][:, channel], **drawn)
        np.testing.assert_allclose(loaded.images[..., channel], 255 * covered, atol=0.5)
    assert np.ptp(factors["size"]) > 4 and np.ptp(factors["rotation"]) > 300


def test_training_images_hold_training_digits_and_held_out_images_test_digits(home):
    mnist = tfds.builder("mnist", data_dir=home)
    for split in SIZES:
        digits = {e["image"][..., 0].tobytes(): e["label"] for e in tfds.as_numpy(mnist.as_dataset(split))}
        loaded = pipeline.load("stacked_mnist", split, data_dir=home)
        inner = loaded.images[:, 2:-2, 2:-2]
        assert loaded.images.astype(int).sum() == inner.astype(int).sum()  # a frame of zeros
        for image, kinds in zip(inner, loaded.factors["kinds"]):
            assert [digits[image[..., channel].tobytes()] for channel in range(3)] == kinds.tolist()
        used = {image[..., channel].tobytes() for image in inner for channel in range(3)}
        assert len(used) > 0.8 * len(digits)


def test_the_order_of_mnists_files_has_no_influence(home, tmp_path):
    other = write_mnist(tmp_path, order=1)
    first, second = (pipeline.load("stacked_mnist", data_dir=place) for place in (home, other))
    np.testing.assert_array_equal(first.images, second.images)


def test_mnist_is_read_from_a_folder_that_cannot_be_written_to(home, small, tmp_path, monkeypatch):
    source = write_mnist(tmp_path / "read_only")
    before = sorted(source.iterdir())
    source.chmod(0o555)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    assert pipeline.prepare("stacked_mnist", source) == tmp_path / "own" / "stacked_mnist" / "uniform" / "1.0.0"
    assert sorted(source.iterdir()) == before
    source.chmod(0o755)


def test_a_mnist_that_is_none_is_one_line(small, tmp_path):
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
    )
    part = tf.data.Dataset.from_tensors({"image": np.zeros([28, 28, 1], np.uint8), "label": 3})
    tfds.dataset_builders.store_as_tfds_dataset(
        "mnist", version="3.0.1", features=features, split_datasets=dict.fromkeys(SIZES, part), data_dir=tmp_path
    )
    with pytest.raises(pipeline.DataError, match="is not MNIST: .*lack the digits .0, 1, 2, 4, .*expected 28 x 28"):
        pipeline.load("stacked_mnist", data_dir=tmp_path)


def test_without_mnist_and_without_a_network_the_line_says_mnist(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(pipeline.DataError, match="mnist could not be prepared in .*no network.*--data_dir"):
        pipeline.load("stacked_mnist", data_dir=tmp_path)


def test_an_unknown_configuration_is_one_line():
    with pytest.raises(pipeline.DataError, match="unknown dataset 'stacked_mnist/zip'.*did you mean stacked_mnist"):
        pipeline.load("stacked_mnist/zip")


# What a classifier learns of them.


def test_a_classifier_learns_single_channels_once_and_equally_many_of_each_kind(home):
    for name in ("stacked_mnist", "stacked_mnist/zipf"):
        loaded = pipeline.load(name, data_dir=home)
        known = {
            image[..., channel].tobytes(): kinds[channel]
            for image, kinds in zip(loaded.images, loaded.factors["kinds"])
            for channel in range(3)
        }
        learned = datasets.record(name).classes(loaded, 20)
        assert learned.class_names == tuple("0123456789") and learned.images.shape[1:] == (32, 32, 1)
        assert {image.tobytes(): label for image, label in zip(learned.images, learned.labels)}.items() <= known.items()
        fewest = min(9, *np.bincount(list(known.values()), minlength=10))  # 90 images
        assert np.bincount(learned.labels).tolist() == [fewest] * 10 and fewest > 0
