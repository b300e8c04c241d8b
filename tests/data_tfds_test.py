"""Any image dataset of TensorFlow Datasets: it streams, its transparent images have a background, its labels are said."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from tfvae.data import pipeline, shapes, split


class Made(tfds.core.GeneratorBasedBuilder):
    """What all of these have in common."""

    VERSION = tfds.core.Version("1.0.0")
    IMAGE = tfds.features.Image(shape=(8, 8, 1))
    LABELS = {}

    def _info(self):
        features = {"image": self.IMAGE} | self.LABELS
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield from enumerate(self.examples())

    def examples(self):
        labels = {name: self.label(feature) for name, feature in self.LABELS.items()}
        for number in range(40):
            yield {"image": np.full([8, 8, 1], number, np.uint8)} | labels

    def label(self, feature):
        return {"Sequence": [1], "Text": "x", "FeaturesDict": {"a": 1}}.get(type(feature).__name__, 1)


# Streaming.


class GreyTiles(Made):
    """40 images of one size, each with a label of its own."""

    LABELS = {"label": tfds.features.ClassLabel(num_classes=40)}

    def examples(self):
        for number in range(40):
            yield {"image": np.full([8, 8, 1], number, np.uint8), "label": number}


def other_tfds(home):
    return pipeline.load("grey_tiles", data_dir=home, streaming=True)


def own_tfds(home):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "NUM_IMAGES", {"train": 40, "test": 10})
        return pipeline.load("shapes", data_dir=home, streaming=True)


def own_folder(home):
    for number in range(40):
        file = home / "pictures" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(file)
    return pipeline.load(f"folder:{home / 'pictures'}", streaming=True)


@pytest.fixture
def global_seed():
    """A function that sets TensorFlow's global seed, as every command does; there is none afterwards."""
    yield tf.random.set_seed
    tf.random.set_seed(None)


@pytest.mark.parametrize("make", [own_tfds, other_tfds, own_folder])
def test_every_kind_of_dataset_streams_with_any_seed(make, tmp_path, global_seed):
    stream, orders = make(tmp_path), {}
    source = sorted(image.tobytes() for batch in stream.in_order(40).as_numpy_iterator() for image in batch["image"])
    for seed in (0, 1, 2**31 - 1, 2**40):
        for set_seed in (seed, 5, None):
            global_seed(set_seed)
            (batch,) = stream.batches(40, seed).take(1).as_numpy_iterator()
            seen = tuple(image.tobytes() for image in batch["image"])
            assert sorted(seen) == source
            orders.setdefault(seed, set()).add(seen)
    assert [len(seen) for seen in orders.values()] == [1] * 4  # the seed that is given decides alone
    assert len(set.union(*orders.values())) == 4


def test_a_stream_has_the_order_that_tf_data_gives_its_seed(tmp_path, global_seed):
    stream = other_tfds(tmp_path)
    order = int(split._epoch_words(3, tf.constant([0], tf.int64))[0, 0])
    global_seed(3)
    expected = tf.data.Dataset.range(40).shuffle(split.SHUFFLE_BUFFER, order, reshuffle_each_iteration=False)
    expected = expected.as_numpy_iterator()
    (batch,) = stream.batches(40, 3).take(1).as_numpy_iterator()
    assert batch["label"].tolist() == [int(label) for label in expected]


# Labels.


class FineLabels(Made):
    """Classes under other names."""

    LABELS = {
        "fine": tfds.features.ClassLabel(names=["a", "b"]),
        "coarse": tfds.features.ClassLabel(num_classes=3),
        "id": np.int64,
    }


class NumberLabel(Made):
    LABELS = {"label": np.int64}


class SequenceLabel(Made):
    LABELS = {"label": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=3))}


class TextLabel(Made):
    LABELS = {"label": tfds.features.Text()}


class DictLabel(Made):
    LABELS = {"label": tfds.features.FeaturesDict({"a": np.int64})}


class NoLabel(Made):
    LABELS = {"id": np.int64}


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("fine_labels", "no labels are read: classes are in 'coarse' and 'fine', expected a feature 'label'"),
        ("number_label", "no labels are read: 'label' is of the kind Tensor, expected ClassLabel"),
        ("sequence_label", "no labels are read: 'label' is of the kind Sequence, expected ClassLabel"),
        ("text_label", "no labels are read: 'label' is of the kind Text, expected ClassLabel"),
        ("dict_label", "no labels are read: 'label' is of the kind FeaturesDict, expected ClassLabel"),
    ],
)
def test_labels_of_another_name_or_kind_are_said_not_to_be_read(name, note, tmp_path):
    for streaming in (False, True):
        loaded = pipeline.load(name, data_dir=tmp_path, streaming=streaming)
        assert loaded.num_classes == 0 and f"\n  {note}" in loaded.summary
    assert note in pipeline.describe(name, data_dir=tmp_path).summary


def test_data_without_labels_have_no_note_of_any(tmp_path):
    loaded = pipeline.load("no_label", data_dir=tmp_path)
    assert loaded.summary == "no_label, train: 40 images of 8 px without classes"


def test_a_dataset_says_its_images_and_classes_also_before_it_is_prepared(tmp_path):
    before = pipeline.describe("grey_tiles", data_dir=tmp_path).summary
    assert before.startswith("grey_tiles, train: images of 8 px, not prepared yet, in 40 classes: 0, 1, 2")
    loaded = pipeline.load("grey_tiles", data_dir=tmp_path)
    assert loaded.summary.startswith("grey_tiles, train: 40 images of 8 px in 40 classes: 0 1, 1 1, 2 1")
    assert pipeline.describe("grey_tiles", data_dir=tmp_path).num_images == 40


class WithheldLabels(GreyTiles):
    def examples(self):
        for example in super().examples():
            yield example | {"label": -1}


def test_a_split_whose_labels_are_withheld_is_one_line(tmp_path):
    with pytest.raises(pipeline.DataError, match="40 of the 40 labels of 'train' of withheld_labels are withheld"):
        pipeline.load("withheld_labels", data_dir=tmp_path)


# Transparency.


def half_hidden(colour, form="PNG", **options):
    """A blue half, and a half of a hidden colour, as an encoded image."""
    pixels = np.zeros([8, 8, 4], np.uint8)
    pixels[:, :4], pixels[:, 4:] = (0, 0, 255, 255), (*colour, 0)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=form, **options)
    stream.seek(0)
    return stream


def by_colour(mode):
    """The same by one transparent colour, of a palette or of the image."""
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 255, 0, 0, 255])
    image.paste(1, (0, 0, 4, 8))
    stream = io.BytesIO()
    image.convert(mode).save(stream, format="PNG", transparency=0 if mode == "P" else (255, 0, 255))
    stream.seek(0)
    return stream


class FourChannels(Made):
    """Declared with an alpha channel."""

    IMAGE = tfds.features.Image(shape=(8, 8, 4))

    def examples(self):
        for colour in ((0, 0, 0), (0, 255, 0)):
            yield {"image": half_hidden(colour)}


class HiddenAlpha(Made):
    """Declared without; the encoded images have one, in four ways, and one has none."""

    IMAGE = tfds.features.Image(shape=(8, 8, 3))

    def examples(self):
        for image in (half_hidden((0, 0, 0)), half_hidden((0, 255, 0)), by_colour("P"), by_colour("RGB")):
            yield {"image": image}
        opaque = np.zeros([8, 8, 3], np.uint8)
        opaque[:, :4], opaque[:, 4:] = (0, 0, 255), (255, 255, 255)
        yield {"image": opaque}


class HiddenAlphaOfManySizes(HiddenAlpha):
    IMAGE = tfds.features.Image(shape=(None, None, 3))


class GreyAlpha(Made):
    """Grey with alpha, declared as grey."""

    def examples(self):
        for hidden in (0, 99):
            image = Image.new("LA", (8, 8), (hidden, 0))
            image.paste((40, 255), (0, 0, 4, 8))
            stream = io.BytesIO()
            image.save(stream, format="PNG")
            stream.seek(0)
            yield {"image": stream}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("four_channels", (0, 0, 255)),
        ("hidden_alpha", (0, 0, 255)),
        ("hidden_alpha_of_many_sizes", (0, 0, 255)),
        ("grey_alpha", (40, 40, 40)),
    ],
)
@pytest.mark.parametrize("resolution", [8, 4])
def test_what_is_transparent_shows_the_background(name, shown, resolution, tmp_path):
    expected = np.zeros([resolution, resolution, 3], np.uint8)
    expected[:, : resolution // 2], expected[:, resolution // 2 :] = shown, (255, 255, 255)
    for streaming in (False, True):
        loaded = pipeline.load(name, data_dir=tmp_path, resolution=resolution, streaming=streaming)
        (batch,) = loaded.in_order(9).as_numpy_iterator()
        for image in batch["image"]:
            np.testing.assert_allclose(
                image, expected, atol=0 if resolution == 8 else 20
            )  # the filter overshoots at edges
    lime = pipeline.load(name, data_dir=tmp_path, resolution=resolution, background="lime").images[0]
    np.testing.assert_allclose(lime[0, [0, -1]], [shown, (0, 255, 0)], atol=20)


def test_opaque_images_are_decoded_as_tfds_does(shapes_home):
    raw = tfds.builder("shapes", data_dir=shapes_home).as_dataset("train", shuffle_files=False)
    expected = np.stack([example["image"] for example in raw.as_numpy_iterator()])
    np.testing.assert_array_equal(pipeline.load("shapes", data_dir=shapes_home, background="red").images, expected)
