"""Projection: the known latent of a linear generator, the same whatever images are beside it; the command, and bad input."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae.data import pipeline
from tfvae.drawing import model as drawing
from tfvae.drawing import prior, projection, sheets
from tfvae.publishing import published
from tfvae.scoring import extractors, kinds
from tfvae.scoring.reconstruction import squared_error
from tfvae.training import run, store

SIDE, LATENT, FEATURES = 4, 3, 5
PIXELS = SIDE * SIDE * 3
DRAW = np.random.default_rng(0)
MATRIX = (0.1 * DRAW.standard_normal([PIXELS, LATENT])).astype(np.float32)
OFFSETS = (0.2 * DRAW.standard_normal([3, PIXELS])).astype(np.float32)  # of each class
LOOK = DRAW.standard_normal([FEATURES, PIXELS]).astype(np.float32)
IMAGES = DRAW.integers(60, 196, (5, SIDE, SIDE, 3)).astype(np.uint8)
KIND = kinds.Kind("linear", "linear", None, "", replica_batch=2)


def linear_model(num_classes=0):
    """A generator whose pictures are MATRIX z + OFFSETS[label]."""

    def network(latent, label=None):
        offset = OFFSETS[0] if label is None else tf.gather(OFFSETS, label)
        return tf.reshape(tf.matmul(latent, MATRIX, transpose_b=True) + offset, [-1, SIDE, SIDE, 3])

    flags = {"resolution": SIDE, "latent_dim": LATENT}
    return drawing.Model(None, flags, num_classes, drawing.drawer(network, 8), None, 0, {}, network=network)


@tf.function
def look(images):
    return {
        "features": tf.matmul(tf.reshape(tf.cast(images, tf.float32), [-1, PIXELS]) / 255.0, LOOK, transpose_b=True)
    }


EXTRACTOR = kinds.Extractor(KIND, "linear", "", look)


def load_colours(kind, folder):
    """An extractor for the command that costs nothing: means of quarters."""

    @tf.function
    def means(images):
        return {"features": tf.reshape(tf.nn.avg_pool2d(tf.cast(images, tf.float32), 16, 16, "VALID"), [-1, 12])}

    return kinds.Extractor(kind, "colours", "of a stand-in", means)


@pytest.fixture
def colours(monkeypatch):
    """As --extractor=random."""
    monkeypatch.setitem(extractors.EXTRACTORS, "random", kinds.Kind("random", "colours", load_colours, ""))


def project(images=IMAGES, labels=None, num_classes=0, **options):
    options = dict(num_draws=64, steps=400, replica_batch=2) | options
    return projection.project(linear_model(num_classes), EXTRACTOR, images, labels, **options)


def nearest(image, weight=0.0, label=0):
    """The latent of least loss by linear least squares, in float64: rows of pixels, and of features scaled by their weight."""
    wanted = image.reshape(-1) / 127.5 - 1.0 - OFFSETS[label]
    own = LOOK.astype(np.float64) @ (image.reshape(-1) / 255.0)
    pixels = np.eye(PIXELS) * 0.5 / np.sqrt(PIXELS)
    features = 0.5 * np.sqrt(weight) * LOOK / np.linalg.norm(own)
    rows = np.concatenate([pixels, features])
    return np.linalg.lstsq(rows @ MATRIX, rows @ wanted, rcond=None)[0]


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_projection_finds_the_least_squares_latent_of_a_linear_generator(weight):
    found = project(feature_weight=weight)
    assert found.label is None
    expected = [nearest(image, weight) for image in IMAGES]
    np.testing.assert_allclose(found.latent, expected, atol=2e-3)
    assert weight == 0.0 or np.abs(np.array(expected) - [nearest(image) for image in IMAGES]).max() > 0.02


def test_projection_begins_at_the_nearest_of_the_draws_and_without_steps_ends_there():
    found = project(feature_weight=0.0, steps=0)
    np.testing.assert_array_equal(found.latent, found.drawn)
    latents = prior.latents(64, LATENT, 0)
    pictures = linear_model().generate(latents)
    for image, start in zip(IMAGES, found.drawn):
        errors = squared_error(np.repeat(image[None], 64, 0), pictures)
        np.testing.assert_array_equal(start, latents[np.argmin(errors)])


def test_an_image_is_projected_alike_alone_and_among_others():
    together = project(steps=20)
    for place in range(len(IMAGES)):
        alone = project(IMAGES[place : place + 1], steps=20)
        np.testing.assert_array_equal(alone.drawn[0], together.drawn[place])
        np.testing.assert_allclose(alone.latent[0], together.latent[place], atol=1e-6)


def test_replicas_share_the_images(two_replicas):
    one = project(steps=20)
    with two_replicas.scope():
        two = project(steps=20)
    np.testing.assert_allclose(two.latent, one.latent, atol=1e-6)


def test_an_image_is_drawn_with_its_own_label():
    labels = np.array([2, 0, 1, 1, 2], np.int32)
    found = project(labels=labels, num_classes=3, feature_weight=0.0)
    np.testing.assert_array_equal(found.label, labels)
    expected = [nearest(image, label=label) for image, label in zip(IMAGES, labels)]
    np.testing.assert_allclose(found.latent, expected, atol=2e-3)


def test_an_image_without_a_label_gets_that_of_the_nearest_draw():
    pictures = linear_model(3).generate(np.zeros([3, LATENT], np.float32), np.arange(3, dtype=np.int32))
    np.testing.assert_array_equal(project(pictures, num_classes=3, steps=0).label, [0, 1, 2])


def test_only_features_with_a_gradient_can_be_weighed():
    @tf.function
    def rounded(images):
        return {"features": look(tf.cast(images, tf.uint8))["features"]}

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8)])
    def of_uint8(images):
        return look(images)

    assert projection.has_gradient(EXTRACTOR, SIDE)
    for refused in (rounded, of_uint8):
        assert not projection.has_gradient(kinds.Extractor(KIND, "other", "", refused), SIDE)


def test_a_sheet_has_each_image_above_what_belongs_to_it_and_fills_the_last_row():
    parts = [
        np.full([3, 2, 2, 3], value, np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None, None] for value in (0, 100)
    ]
    picture = sheets.above_each_other(parts, columns=2)
    assert picture[::4, ::4, 0].tolist() == [[0, 1], [100, 101], [2, 255], [102, 255]]


# The command.


@pytest.fixture(scope="module")
def runs(make_model, shapes_home, tmp_path_factory):
    """{objective: the folder of a run of a tiny conditional model of `shapes`}."""
    split = pipeline.load("shapes", data_dir=shapes_home)
    folders = {}
    for objective in ("gan", "vae"):
        made = dict(dataset="shapes", data_dir=str(shapes_home), base_channels=2, latent_dim=8)
        settings, model = make_model(objective, split.num_classes, **made)
        directory = run.RunDirectory(tmp_path_factory.mktemp("runs") / objective)
        directory.begin(settings, split, overwrite=False)
        store.write(directory.checkpoints, model, model.images_seen, keep=1)
        folders[objective] = directory.path
    return folders


QUICK = ("--num_images=3", "--num_draws=6", "--steps=4", "--batch_size=2", "--extractor=random")


def read(folder):
    return json.loads((folder / "projections.json").read_text())


@pytest.mark.parametrize("objective", ["gan", "vae"])
def test_the_command_projects_held_out_images_with_their_labels(
    objective, runs, shapes_home, colours, run_command, tmp_path
):
    said = run_command("project", f"--model_dir={runs[objective]}", "--split=test", *QUICK, f"--output_dir={tmp_path}")
    result = read(tmp_path)
    kinds_of_pictures = ["best_draw", "projection"] + ["reconstruction"] * (objective == "vae")
    assert list(result["mean"]) == kinds_of_pictures and result["labels"] == "the images' own"
    test = pipeline.load("shapes", "test", data_dir=shapes_home)
    assert [image["label"] for image in result["images"]] == [test.labels[image["row"]] for image in result["images"]]
    model = run.load_run(runs[objective])
    for image in result["images"]:
        latent = np.array([image["latent"]], np.float32)
        drawn = model.generate(latent, np.array([image["label"]], np.int32))
        error = squared_error(test.images[image["row"]][None], drawn)[0]
        np.testing.assert_allclose(image["errors"]["projection"]["squared_error"], error, rtol=1e-3)
        np.testing.assert_allclose(image["errors"]["projection"]["psnr"], -10 * np.log10(error), rtol=1e-3)
    for name in kinds_of_pictures:
        for error in ("squared_error", "psnr", "feature_distance"):
            values = [image["errors"][name][error] for image in result["images"]]
            np.testing.assert_allclose(result["mean"][name][error], np.mean(values))
    weighed = [result["mean"][name] for name in ("best_draw", "projection")]
    before, after = (part["squared_error"] + 0.01 * part["feature_distance"] for part in weighed)
    assert after < before
    sheet = np.asarray(Image.open(tmp_path / "projections.png"))
    assert sheet.shape == (34 * len(kinds_of_pictures) - 2, 34 * 3 - 2, 3)
    np.testing.assert_array_equal(sheet[:32, :32], test.images[result["images"][0]["row"]])
    assert "projections.png" in said and "best_draw" in said


def test_the_command_projects_a_folder_of_images_without_labels_and_never_overwrites(runs, colours, run_here, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for place in range(2):
        Image.fromarray(DRAW.integers(0, 256, (40, 50, 3)).astype(np.uint8)).save(pictures / f"{place}.png")
    arguments = [f"--model_dir={runs['gan']}", f"--images={pictures}", *QUICK, "--feature_weight=0"]
    first = run_here("project", *arguments, f"--output_dir={tmp_path / 'a'}")
    assert first.returncode == 0, first.stderr
    assert "each gets the label of its best draw" in first.stdout
    assert read(tmp_path / "a")["labels"] == "the best draw's" and read(tmp_path / "a")["num_images"] == 2
    kept = (tmp_path / "a" / "projections.json").read_bytes()
    again = run_here("project", *arguments, f"--output_dir={tmp_path / 'a'}")
    assert again.returncode == 1 and "projections.png exists: give another --output_dir, or --overwrite" in again.stderr
    again = run_here("project", *arguments, f"--output_dir={tmp_path / 'a'}", "--overwrite")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "a" / "projections.json").read_bytes() == kept


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--split=test"], "--model_dir is missing"),
        (["--model_dir=RUN"], "--images and --split: both are missing"),
        (["--model_dir=RUN", "--split=test", "--images=x"], "--images and --split: both are given"),
        (["--model_dir=/nowhere", "--split=test"], "/nowhere holds no model"),
        (["--model_dir=RUN", "--split=nowhere"], "nowhere"),
        (["--model_dir=RUN", "--images=/nowhere"], "/nowhere"),
        (["--model_dir=RUN", "--split=test", "--learning_rate=nan"], "--learning_rate=nan: expected a finite number"),
        (["--model_dir=RUN", "--split=test", "--output_dir=/proc/x"], "cannot be written"),
        (["--model_dir=RUN", "--split=test", "--extractor=saved_model"], "--extractor_dir is missing"),
    ],
)
def test_bad_input_ends_with_one_clear_line(arguments, line, runs, run_here):
    there = sorted(os.listdir(runs["gan"]))
    result = run_here("project", *QUICK[:-1], *[argument.replace("=RUN", f"={runs['gan']}") for argument in arguments])
    assert result.returncode == 1 and line in result.stderr.splitlines()[-1]
    assert sorted(os.listdir(runs["gan"])) == there


def test_a_published_model_is_refused_for_it_gives_no_gradients(run_here, tmp_path):
    facts = tmp_path / "1" / published.FACTS
    facts.parent.mkdir(parents=True)
    facts.write_text("{}")
    for folder in (tmp_path, tmp_path / "1"):
        result = run_here("project", f"--model_dir={folder}", "--split=test")
        assert result.returncode == 1 and "signatures give no gradients: expected the run" in result.stderr
