"""The records of datasets, and what data without a record of their own are taken for."""

import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tfvae.data import datasets, pipeline
from tfvae.drawing.model import Model
from tfvae.networks import tables
from tfvae.scoring import classifier
from tfvae.studies import plan
from tfvae.training import run

EVERY_RECORD = pytest.mark.parametrize("name", datasets.DATASETS)
CONFIGURED = [
    f"{name}/{config.name}"
    for name, one in datasets.DATASETS.items()
    if one.builder
    for config in one.builder.BUILDER_CONFIGS
]


class Tiles(tfds.core.GeneratorBasedBuilder):
    """Plain tiles in three colours; one number tells each image from all others."""

    VERSION = tfds.core.Version("1.0.0")
    SIZES = {"train": 40, "validation": 6, "test": 12}
    WITHHELD = ()  # splits whose labels are not given away

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=["red", "green", "blue"]),
            "number": np.int32,
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.SIZES}

    def _generate_examples(self, split):
        first = 100 * list(Tiles.SIZES).index(split)
        for i in range(self.SIZES[split]):
            image = np.zeros([32, 32, 3], np.uint8)
            image[..., i % 3] = 255 - i
            image[0, 0] = first // 100, i, 0
            label = -1 if split in self.WITHHELD else i % 3
            yield i, {"image": image, "label": label, "number": first + i}


class TilesWithValidation(Tiles):
    """No test split."""

    SIZES = {"train": 40, "validation": 6}


class TilesForTraining(Tiles):
    """One split alone."""

    SIZES = {"train": 40}


class TilesOfAContest(Tiles):
    """A test split without its labels, as ImageNet's."""

    WITHHELD = ("test",)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """The data folder of all tiles."""
    return tmp_path_factory.mktemp("tiles")


def images_of(home, split, dataset="tiles"):
    return pipeline.load(dataset, split, data_dir=home).images


# The records.


@EVERY_RECORD
def test_a_record_is_whole(name):
    one = datasets.DATASETS[name]
    assert one.name == name == one.slug and datasets.record(name) is one
    for words in (one.title, one.help):
        assert words and words == words.strip() and "\n" not in words and not words.endswith(".")
    assert one.builder is None or issubclass(one.builder, tfds.core.GeneratorBasedBuilder)
    assert one.resolution is None or one.resolution in tables.GENERATOR_MULTIPLIERS
    assert one.recipe.base_channels > 0 and one.recipe.epochs > 0
    assert one.cpu_images % (5 * 32 * 10) == 0
    if one.archive:
        assert "MD5" in one.archive.help and pathlib.Path(one.archive.file).name == one.archive.file


@EVERY_RECORD
def test_a_records_splits_do_not_overlap(name):
    one = datasets.DATASETS[name]
    reference, held_out = one.protocol.reference_split, one.protocol.held_out_split
    assert "train" not in one.held_out_splits and one.held_out_splits
    assert one.protocol.num_images >= 20
    for split in (reference, held_out):
        tfds.core.ReadInstruction.from_spec(split)
    # Drawn images are compared with what the model was trained on.
    assert (
        reference == "train"
        and held_out in one.held_out_splits
        or (
            (first := re.fullmatch(r"train\[:(\d+)%\]", reference))
            and (second := re.fullmatch(r"train\[(\d+)%:\]", held_out))
            and int(first[1]) <= int(second[1])
        )
    )


@EVERY_RECORD
def test_messages_and_help_name_every_record(name):
    assert name in datasets.choices() and f"{name} ({datasets.DATASETS[name].help})" in datasets.flag_help()


@pytest.mark.parametrize("name", CONFIGURED)
def test_each_configuration_of_a_builder_is_a_dataset(name):
    base, _, config = name.partition("/")
    one, first = datasets.record(name), datasets.DATASETS[base]
    assert (one.name, one.config, one.builder) == (name, config, first.builder) and config in one.title
    assert one.slug == f"{base}_{config}"
    assert first.config == one.builder.BUILDER_CONFIGS[0].name  # the default


@pytest.mark.parametrize("name", [*datasets.DATASETS, *CONFIGURED])
def test_known_modes_have_frequencies_and_no_labels(name, tmp_path):
    one = datasets.record(name)
    if one.mode_frequencies is None:
        assert one.frequencies is None
        return
    assert one.mode_frequencies.shape == (1000,) and one.mode_frequencies.min() > 0
    assert one.mode_frequencies.sum() == pytest.approx(1)
    features = one.builder(data_dir=tmp_path, config=one.config).info.features
    assert "label" not in features and features["kinds"].shape == (3,)
    assert pipeline.describe(name, data_dir=tmp_path).num_classes == 0
    assert one.source is None or datasets.record(one.source).builder is None  # TFDS' own


def test_records_are_read_without_tensorflow():
    code = "import sys; import tfvae.data.datasets; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_other_names_get_a_record_of_their_own():
    one = datasets.record("cifar10_corrupted/blur")
    assert (one.title, one.slug) == ("cifar10_corrupted/blur", "cifar10_corrupted_blur")
    assert one.protocol == datasets.Protocol("train", None, 10_000) and one.recipe == datasets.Recipe(32, 10)
    folder = datasets.record("folder:pictures/my cats")
    assert folder.title == "the folder pictures/my cats" and folder.folder == "pictures/my cats"
    assert folder.held_out_splits == () and re.fullmatch(r"folder_my_cats_[0-9a-f]{8}", folder.slug)


def test_folders_of_one_name_in_two_places_have_two_slugs(monkeypatch, tmp_path):
    slugs = {datasets.record(f"folder:{place}/cats").slug for place in ("/x", "/y", "x", "~/x")}
    assert len(slugs) == 4
    monkeypatch.chdir(tmp_path)
    spellings = ("cats", "./cats/", "dogs/../cats", tmp_path / "cats")
    assert len({datasets.record(f"folder:{spelling}").slug for spelling in spellings}) == 1


# A dataset more is a record more.


def brightness(split, min_images):
    """Two classes: the first and the second half of the images."""
    dark = (split.factors["number"] % 100 >= split.num_images // 2).astype(np.int32)
    return datasets.dataclasses.replace(split, labels=dark, class_names=("bright", "dark"), num_classes=2)


@pytest.fixture
def toy(monkeypatch):
    """The tiles with a record."""
    record = datasets.Dataset(
        name="toy",
        title="Toy Tiles",
        help="58 tiles",
        builder=Tiles,
        resolution=16,
        held_out_splits=("validation",),
        protocol=datasets.Protocol("train[:20]", "train[20:]", 20),
        recipe=datasets.Recipe(4, 1),
        classes=brightness,
        cpu_images=32_000,
    )
    monkeypatch.setitem(datasets.DATASETS, "toy", record)
    return record


def test_a_record_is_all_that_loading_needs(toy, home):
    train = pipeline.load("toy", data_dir=home)
    assert (train.resolution, train.num_images, train.class_names) == (16, 40, ("red", "green", "blue"))
    np.testing.assert_array_equal(train.factors["number"], np.arange(40))
    assert pipeline.describe("toy", data_dir=home).resolution == 16
    assert pipeline.held_out_split("toy", data_dir=home) == "validation"
    assert list(pipeline.load("toy", "validation", data_dir=home).factors["number"]) == list(range(100, 106))
    with pytest.raises(pipeline.DataError, match="unknown dataset 'toi'.*did you mean toy.*expected cifar10, .*toy, "):
        pipeline.load("toi", data_dir=home)


def test_a_record_says_what_its_classifier_learns(toy, home):
    train, held_out = classifier.labelled_splits("toy", home)
    assert train.class_names == held_out.class_names == ("bright", "dark")
    assert np.bincount(train.labels).tolist() == [20, 20] and held_out.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_record_says_how_a_study_treats_it(toy):
    (one,) = plan.read_experiments(["main/toy_vae: --dataset=toy --objective=vae"], "cpu", {})
    assert one.total_images == 32_000 and one.label == "VAE" and plan.shown("toy") == "Toy Tiles"


# What is held out of data without a record.


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("tiles", "test"),
        ("tiles_with_validation", "validation"),
        ("tiles_for_training", None),
        ("tiles_of_a_contest", "validation"),
        ("folder:/nowhere", None),
    ],
)
def test_the_test_split_is_held_out_else_the_validation_split(dataset, expected, home):
    assert pipeline.held_out_split(dataset, data_dir=home) == expected


def test_a_classifier_is_tested_on_the_split_that_is_held_out(home):
    for dataset, split in (("tiles", "test"), ("tiles_with_validation", "validation")):
        train, held_out = classifier.labelled_splits(dataset, home)
        np.testing.assert_array_equal(held_out.images, images_of(home, split, dataset))
        assert train.num_images == 40
    train, held_out = classifier.labelled_splits("tiles_for_training", home)
    assert (train.num_images, held_out.num_images) == (37, 3)


@pytest.fixture
def loaded(monkeypatch, home):
    """Puts in the place of every run a VAE that returns white images; the list of batches that it encodes."""
    encoded = []

    def encode(images):
        encoded.append(images)
        return np.zeros([len(images), 4], np.float32), np.zeros([len(images), 4], np.float32)

    def generate(latent, label=None):
        return np.full([len(latent), 32, 32, 3], 255, np.uint8)

    def load_run(model_dir, *_, **__):
        dataset = pathlib.Path(model_dir).name
        settings = {"dataset": dataset, "data_dir": str(home), "resolution": 32, "latent_dim": 4, "objective": "vae"}
        facts = {"model": str(model_dir), "weights": "none"}
        return Model(pathlib.Path(model_dir), settings, 0, generate, encode, 8, facts)

    monkeypatch.setattr(run, "load_run", load_run)
    return encoded


@pytest.fixture(scope="module")
def classifier_dir(tmp_path_factory):
    """An extractor of 32 px images, without training."""
    folder = tmp_path_factory.mktemp("classifier") / "classifier"
    image = keras.Input([32, 32, 3], dtype="uint8")
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    outputs = {"logits": keras.layers.Dense(3)(features), "features": features}
    keras.Model(image, outputs).export(str(folder), verbose=False)
    facts = {"dataset": "tiles", "resolution": 32, "class_names": ["red", "green", "blue"], "accuracy": 0.5}
    (folder / "classifier.json").write_text(json.dumps(facts))
    return folder


def from_split(images, home, dataset, split):
    """Whether all of the images are of a split."""
    known = {image.tobytes() for image in images_of(home, split, dataset)}
    return {image.tobytes() for image in images} <= known


HELD_OUT = [("tiles", "test", "held-out"), ("tiles_for_training", "train", "training")]


@pytest.mark.parametrize(("dataset", "split", "words"), HELD_OUT)
def test_sample_reconstructs_held_out_images_and_calls_no_others_so(
    dataset, split, words, run_command, loaded, home, tmp_path
):
    arguments = [f"--model_dir={tmp_path / dataset}", "--sheets=reconstructions", "--rows=2", "--columns=4"]
    said = run_command("sample", *arguments)
    assert from_split(np.concatenate(loaded), home, dataset, split)
    assert f"({words} images above their reconstructions)" in said


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize(("dataset", "split", "words"), HELD_OUT)
def test_evaluate_takes_errors_and_memorisation_from_held_out_images(
    dataset, split, words, run_command, loaded, classifier_dir, home, tmp_path
):
    arguments = [f"--model_dir={tmp_path / dataset}", f"--classifier_dir={classifier_dir}", "--num_images=20"]
    run_command("evaluate", *arguments, f"--cache_dir={tmp_path}", f"--output={tmp_path / 'scores.json'}")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["reconstruction"]["errors_of"] == {"split": split, "images": 12 if split == "test" else 20}
    assert from_split(loaded[0], home, dataset, split)
    assert ("memorisation_ratio_of_20_training_images" in scores["scores"]) == (split == "test")
    assert (scores["reference"]["memorisation"] is not None) == (split == "test")


@pytest.mark.parametrize(("dataset", "split", "words"), HELD_OUT)
def test_a_studys_pictures_say_which_images_were_reconstructed(
    dataset, split, words, run_command, loaded, classifier_dir, home, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arguments = [f"--model_dir={tmp_path / dataset}", f"--classifier_dir={classifier_dir}", "--num_images=20"]
    run_command("studies.exhibits", *arguments, f"--output={tmp_path / 'exhibits.npz'}")
    with np.load(tmp_path / "exhibits.npz") as arrays:
        assert from_split(arrays["real"], home, dataset, split) and len(arrays["real"]) == 12
        assert str(arrays["real_split"]) == split
