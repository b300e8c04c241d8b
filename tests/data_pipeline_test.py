"""Tests of tfvae.data.pipeline, split and folder."""

import os
import pathlib
import socket

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tfvae.data import datasets, pipeline, split
from tfvae.data.errors import DataError

NUM_IMAGES = 22


def made_split(num_images=NUM_IMAGES):
    """A split whose image i is filled with i and labelled i."""
    pixels = np.broadcast_to(np.arange(num_images, dtype=np.uint8)[:, None, None, None], [num_images, 4, 4, 3])
    labels = np.arange(num_images, dtype=np.int32)
    return split.Split("made", "train", 4, num_images, num_images, (), pixels, labels)


def take(dataset, number):
    """Labels of the first batches, after checking that images go with them."""
    result = []
    for batch in dataset.take(number).as_numpy_iterator():
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])
        result.append(batch["label"])
    return np.stack(result)


def write_images(folder, files, size=(6, 6)):
    for number, name in enumerate(files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full([size[1], size[0], 3], number * 10, np.uint8)).save(folder / name)


def message(function, *args, **kwargs):
    with pytest.raises(DataError) as error:
        function(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# Batches by index.


def test_batches_have_static_shapes_and_the_promised_types():
    spec = made_split().batches(6, seed=0).element_spec
    assert spec == {"image": tf.TensorSpec([6, 4, 4, 3], tf.uint8), "label": tf.TensorSpec([6], tf.int32)}


def test_every_epoch_visits_each_image_once_and_batches_run_across_its_end():
    seen = take(made_split().batches(8, seed=3), 11).reshape(4, NUM_IMAGES)
    for epoch in seen:
        assert sorted(epoch) == list(range(NUM_IMAGES))
    assert len({tuple(epoch) for epoch in seen}) == 4


def test_order_depends_on_the_seed_alone():
    orders = [tuple(take(made_split().batches(22, seed), 1)[0]) for seed in (0, 0, 1, -1, 2**32, 2**40)]
    assert orders[0] == orders[1] and len(set(orders)) == 5


def test_images_are_well_mixed_over_the_places_of_an_epoch():
    # Without a dataset, which would compute batches ahead: the op is slow on so few images.
    first = made_split(4)._shuffled_indices(tf.range(2000, dtype=tf.int64) * 4, seed=0).numpy()
    assert np.abs(np.bincount(first, minlength=4) / 2000 - 0.25).max() < 0.05


def test_epochs_of_a_large_dataset_are_unrelated_permutations():
    number = 50_000
    large = split.Split("made", "train", 1, number, 0, (), np.zeros([number, 1, 1, 3], np.uint8), np.arange(number))
    epochs = [batch["label"] for batch in large.batches(number, seed=0).take(3).as_numpy_iterator()]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(number))
    # A correlation of independent orders has standard deviation 1 / sqrt(50,000) = 0.0045.
    for first, second in [(epochs[0], epochs[1]), (epochs[1], epochs[2]), (epochs[0][1:], epochs[0][:-1])]:
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    # Means of 64 drawn without order have standard deviation 50,000 / sqrt(12 * 64).
    spread = epochs[0][: 781 * 64].reshape(781, 64).mean(axis=1).std()
    assert spread == pytest.approx(number / np.sqrt(12 * 64), rel=0.1)


def test_many_epochs_have_many_orders():
    starts = made_split(200)._shuffled_indices(tf.range(4000, dtype=tf.int64) * 200, seed=0).numpy()
    counts = np.bincount(starts, minlength=200)
    # Chi-squared with 199 degrees of freedom: mean 199, standard deviation 20.
    assert ((counts - 20) ** 2 / 20).sum() < 300


def test_resuming_at_a_step_gives_the_rest_of_the_stream():
    whole = take(made_split().batches(8, seed=5), 12)
    np.testing.assert_array_equal(take(made_split().batches(8, seed=5, first_image=56), 5), whole[7:])


def test_resuming_far_into_training_is_immediate_and_needs_64_bits():
    assert take(made_split().batches(8, seed=5, first_image=2**36), 1).shape == (1, 8)


@pytest.mark.parametrize(("num_workers", "local_replicas"), [(2, 1), (1, 2), (2, 2)])
def test_workers_and_replicas_share_the_global_batch_of_one(num_workers, local_replicas):
    whole = take(made_split().batches(8, seed=1, first_image=24), 5)
    parts = [
        take(made_split().batches(8, 1, 24, worker, num_workers, local_replicas), 5 * local_replicas).reshape(5, -1)
        for worker in range(num_workers)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_one_image_is_a_dataset_too():
    np.testing.assert_array_equal(take(made_split(1).batches(3, seed=0), 2), np.zeros([2, 3]))


def test_a_batch_that_does_not_divide_is_refused():
    text = message(made_split().batches, 10, seed=0, num_workers=2, local_replicas=2)
    assert "10" in text and "multiple of 4" in text
    message(made_split().batches, 0, seed=0)
    message(made_split().batches, 8, seed=0, worker=2, num_workers=2)


def test_batches_feed_a_mirrored_strategy_share_by_share():
    cpus = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([cpus[0].name])
    data = strategy.distribute_datasets_from_function(
        lambda context: made_split().batches(
            8, 1, local_replicas=strategy.num_replicas_in_sync, num_workers=context.num_input_pipelines
        )
    )
    np.testing.assert_array_equal(next(iter(data))["label"], take(made_split().batches(8, 1), 1)[0])


def test_in_order_gives_every_image_once_with_a_smaller_last_batch():
    labels = [batch["label"] for batch in made_split().in_order(8).as_numpy_iterator()]
    assert [len(part) for part in labels] == [8, 8, 6]
    np.testing.assert_array_equal(np.concatenate(labels), np.arange(NUM_IMAGES))


def test_the_fingerprint_tells_content_apart():
    assert made_split().fingerprint == made_split().fingerprint != made_split(21).fingerprint


# Streaming.


def test_streaming_reads_the_same_images_as_memory_in_order(shapes_home):
    memory = pipeline.load("shapes", data_dir=shapes_home)
    stream = pipeline.load("shapes", data_dir=shapes_home, streaming=True)
    assert stream.images is None and (stream.num_images, stream.num_classes) == (100, 10)
    assert stream.batches(8, 0).element_spec == memory.batches(8, 0).element_spec
    batches = list(stream.in_order(32).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), memory.images)
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), memory.labels)
    assert len(stream.fingerprint) == 64


def streamed(home, number, *args, **kwargs):
    data = pipeline.load("shapes", data_dir=home, streaming=True).batches(*args, **kwargs)
    return np.stack([batch["image"] for batch in data.take(number).as_numpy_iterator()])


def test_a_stream_is_shuffled_anew_each_epoch_by_its_seed(shapes_home, monkeypatch):
    monkeypatch.setattr(split, "SHUFFLE_BUFFER", 30)
    epochs = streamed(shapes_home, 10, 20, seed=1).reshape(2, 100, -1)
    source = {image.tobytes() for image in pipeline.load("shapes", data_dir=shapes_home).images}
    for epoch in epochs:
        assert {image.tobytes() for image in epoch} == source
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(streamed(shapes_home, 5, 20, seed=1).reshape(100, -1), epochs[0])
    assert (streamed(shapes_home, 5, 20, seed=2).reshape(100, -1) != epochs[0]).any()


def test_a_stream_resumes_and_is_shared_like_memory(shapes_home):
    whole = streamed(shapes_home, 12, 16, seed=1)
    np.testing.assert_array_equal(streamed(shapes_home, 5, 16, seed=1, first_image=112), whole[7:])
    parts = [streamed(shapes_home, 4, 16, 1, 48, worker, 2, 2) for worker in (0, 1)]
    parts = np.concatenate([part.reshape(2, 8, 32, 32, 3) for part in parts], axis=1)
    np.testing.assert_array_equal(parts, whole[3:5])


def test_a_split_above_the_memory_limit_streams(shapes_home, monkeypatch):
    monkeypatch.setattr(pipeline, "MEMORY_LIMIT_BYTES", 100 * 32 * 32 * 3 - 1)
    assert pipeline.load("shapes", data_dir=shapes_home).streaming
    assert not pipeline.load("shapes", "test", data_dir=shapes_home).streaming


# Datasets of TFDS.


def test_resolution_resizes_what_tfds_holds(shapes_home):
    loaded = pipeline.load("shapes", data_dir=shapes_home)
    small = pipeline.load("shapes", data_dir=shapes_home, resolution=16)
    for image, source in zip(small.images, loaded.images, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.fromarray(source).resize((16, 16))))


class GreyWide(tfds.core.GeneratorBasedBuilder):
    """Grey images of changing sizes, without labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, None, 1))})
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(5):
            yield number, {"image": np.full([8, 10 + number, 1], 40 * number, np.uint8)}


def test_any_tfds_image_dataset_loads_by_name_at_a_resolution(tmp_path):
    loaded = pipeline.load("grey_wide", data_dir=tmp_path, resolution=4)
    assert loaded.images.shape == (5, 4, 4, 3) and loaded.num_classes == 0 and not loaded.labels.any()
    assert sorted(loaded.images[:, 0, 0, 0]) == [0, 40, 80, 120, 160]
    assert "--resolution" in message(pipeline.load, "grey_wide", data_dir=tmp_path)


def test_cifar10_is_used_as_prepared_in_data_dir(tmp_path):
    version = tfds.builder_cls("cifar10").VERSION

    with tfds.core.registered.skip_registration():

        class Prepared(GreyWide):
            """Stands in for the real one: its name and version, other content."""

            name = "cifar10"
            VERSION = version

            def _info(self):
                image = tfds.features.Image(shape=(32, 32, 3))
                label = tfds.features.ClassLabel(num_classes=10)
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict({"id": tfds.features.Text(), "image": image, "label": label}),
                )

            def _generate_examples(self):
                for number in range(5):
                    image = np.full([32, 32, 3], number, np.uint8)
                    yield number, {"id": str(number), "image": image, "label": number}

    Prepared(data_dir=tmp_path).download_and_prepare()
    before = sorted(tmp_path.rglob("*"))
    loaded = pipeline.load("cifar10", data_dir=tmp_path)
    assert loaded.images.shape == (5, 32, 32, 3) and loaded.num_classes == 10 and not loaded.factors
    np.testing.assert_array_equal(loaded.images[:, 0, 0, 0], loaded.labels)
    assert sorted(tmp_path.rglob("*")) == before


def test_cifar10_without_network_names_data_dir_mirrors_and_checksums(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(pipeline.urllib.request, "getproxies", dict)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    text = message(pipeline.load, "cifar10", data_dir=tmp_path)
    for part in (str(tmp_path), "--data_dir", "mirrors", "c32a1d4ab5d03f1284b67883e8d87530", "does not answer"):
        assert part in text
    assert not list(tmp_path.iterdir())


def test_a_wrong_cifar10_archive_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "own"))
    (tmp_path / datasets.record("cifar10").archive.file).write_bytes(b"not the archive")
    assert "c32a1d4ab5d03f1284b67883e8d87530" in message(pipeline.load, "cifar10", data_dir=tmp_path)
    assert not list((tmp_path / "cifar10").glob("3*"))


def test_an_unknown_dataset_or_split_lists_the_valid_names(shapes_home):
    text = message(pipeline.load, "cifr10")
    assert "cifar10, lfw, shapes, stacked_shapes, stacked_mnist, folder:PATH" in text and "did you mean" in text
    assert "train, test" in message(pipeline.load, "shapes", "validation", data_dir=shapes_home)
    assert "1 px" in message(pipeline.load, "shapes", data_dir=shapes_home, resolution=0)


def test_a_dataset_without_images_is_refused(tmp_path):
    assert "image dataset" in message(pipeline.load, "imdb_reviews", data_dir=tmp_path)


def test_data_dir_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "is a file" in message(pipeline.load, "shapes", data_dir=tmp_path / "file")


# A user's folder.


def test_sub_folders_are_classes(tmp_path):
    write_images(tmp_path, ["dog/b.png", "cat/x/a.bmp", "cat/c.png"])
    loaded = pipeline.load(f"folder:{tmp_path}")
    assert loaded.class_names == ("cat", "dog") and loaded.num_classes == 2 and loaded.resolution == 6
    np.testing.assert_array_equal(loaded.labels, [0, 0, 1])
    np.testing.assert_array_equal(loaded.images[:, 0, 0, 0], [20, 10, 0])


@pytest.mark.parametrize(
    "files", [["b.png", "a.PNG"], ["only/b.png", "only/a.png"], ["a.png", "b.png", "x/c.png", "y/d.png"]]
)
def test_other_layouts_are_unlabelled_and_sorted(tmp_path, files):
    write_images(tmp_path, files)
    loaded = pipeline.load(f"folder:{tmp_path}")
    assert loaded.num_classes == 0 and not loaded.labels.any()
    np.testing.assert_array_equal(loaded.images[:, 0, 0, 0], [10 * files.index(name) for name in sorted(files)])


def test_images_of_mixed_sizes_are_cropped_and_resized_to_the_resolution(tmp_path):
    write_images(tmp_path, ["a.png"], size=(9, 6))
    write_images(tmp_path, ["b.png"], size=(5, 5))
    assert "--resolution" in message(pipeline.load, f"folder:{tmp_path}")
    assert pipeline.load(f"folder:{tmp_path}", resolution=4).images.shape == (2, 4, 4, 3)


def test_a_folder_streams_the_very_batches_of_memory(tmp_path):
    write_images(tmp_path, [f"{name}.png" for name in "abcdefg"])
    memory, stream = (pipeline.load(f"folder:{tmp_path}", streaming=streaming) for streaming in (False, True))
    assert stream.images is None and stream.batches(4, 0).element_spec == memory.batches(4, 0).element_spec
    for first, second in zip(memory.batches(4, 0, 5).take(4), stream.batches(4, 0, 5).take(4), strict=True):
        np.testing.assert_array_equal(first["image"], second["image"])
    assert sum(len(batch["label"]) for batch in stream.in_order(4)) == 7
    assert stream.fingerprint == pipeline.load(f"folder:{tmp_path}", streaming=True).fingerprint


def test_one_unreadable_image_is_named(tmp_path):
    write_images(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:50])
    for resolution in (None, 4):
        text = message(pipeline.load, f"folder:{tmp_path}", resolution=resolution)
        assert "b.png" in text and "repair it or take it out" in text
    (tmp_path / "b.png").write_bytes(b"text")
    assert "b.png" in message(pipeline.load, f"folder:{tmp_path}")


def test_a_missing_or_empty_folder_or_another_split_is_refused(tmp_path):
    assert "no such folder" in message(pipeline.load, f"folder:{tmp_path / 'none'}")
    (tmp_path / "notes.txt").touch()
    assert ".webp" in message(pipeline.load, f"folder:{tmp_path}")
    assert "expected 'train'" in message(pipeline.load, f"folder:{tmp_path}", "test")


@pytest.mark.skipif("TFVAE_TEST_DATA" not in os.environ, reason="TFVAE_TEST_DATA names no folder of real data")
def test_the_real_cifar10_loads_from_data_dir():
    home = pathlib.Path(os.environ["TFVAE_TEST_DATA"]) / "tfds"
    if not (home / "cifar10").is_dir():
        pytest.skip(f"no {home / 'cifar10'}")
    loaded = pipeline.load("cifar10", "test", data_dir=home)
    assert loaded.images.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(loaded.labels), [1000] * 10)
    assert 110 < loaded.images.mean() < 130
