"""What scoring can do without: a score that is not defined, a cache, TensorBoard; nothing of it ends a command."""

import dataclasses
import json
import math
import shutil
import types

import keras
import numpy as np
import pytest
import scoring_toys
import tensorflow as tf
from objectives_toys import at_step
from PIL import Image
from scoring_toys import CLASSIFIER, counted, load_counting, unknown_home

from tfvae.command import UserError
from tfvae.data import pipeline
from tfvae.drawing.model import Model
from tfvae.scoring import distances, extractors, protocol, scores, sources
from tfvae.studies import results
from tfvae.training import callbacks, run

pytestmark = pytest.mark.filterwarnings("ignore:.*rank-deficient")


@pytest.fixture
def extractor():
    return scoring_toys.make_counting()


# Scores that are not defined.


def outputs(number, classes=3, seed=0, **changes):
    draw = np.random.default_rng(seed)
    made = protocol.Outputs(
        draw.normal(size=(number, 5)), draw.normal(size=(number, 4)), (np.arange(number) % classes).astype(np.int32)
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def every():
    """The names of all scores of images of which each is defined."""
    kind = load_counting(CLASSIFIER, None)
    found, undefined = protocol.score(protocol.Reference(outputs(1030), 3), outputs(1030, seed=1), kind)
    assert not undefined
    return set(found)


KERNEL = {"kernel_classifier_distance", "kernel_classifier_distance_standard_error"}
ERROR = {"kernel_classifier_distance_standard_error"}
SCORE = {"classifier_score", "classifier_score_std_over_splits"}
CLASSES = {"frechet_within_class", "frechet_within_worst_class"}
SYMMETRIC = {"symmetric_precision", "symmetric_recall"}
RARITY = {"coverage_slope_over_rarity", *(f"coverage_of_rarity_tenth_{i}" for i in range(1, 11))}
NAN = np.full([120, 4], np.nan)


@pytest.mark.parametrize(
    ("reference", "fake", "undefined", "reason"),
    [
        # What the field has met: few images drawn against many.
        (outputs(5200), outputs(11), KERNEL, "5200 real and 11 fake images in 6 blocks: expected 12 or more of each"),
        (outputs(120), outputs(5), SCORE | ERROR | SYMMETRIC, "the score of 5 images in 10 splits"),
        (
            outputs(120),
            outputs(3),
            SCORE | ERROR | {"precision", "recall"} | SYMMETRIC | CLASSES,
            "3 images: expected 4 or more for 3",
        ),
        (outputs(4), outputs(40), ERROR | {"density", "coverage"} | SYMMETRIC | RARITY, "4 images: expected 6 or more for 5"),
        (outputs(99), outputs(40), ERROR | RARITY, "of 99 images: expected 100 or more to cut into tenths"),
        (outputs(120), outputs(40), ERROR, "fit into one block of 1,024: a standard error needs two"),
        (outputs(120, classes=1), outputs(40, labels=np.full(40, 2, np.int32)), ERROR | CLASSES, "no class has 2 images"),
        (outputs(120), outputs(40, labels=np.full(40, 7, np.int32)), ERROR | CLASSES, "fake_labels are from 7 to 7"),
        (
            outputs(120),
            outputs(120, features=NAN),
            KERNEL
            | CLASSES
            | SYMMETRIC
            | RARITY
            | {"frechet_classifier_distance", "precision", "recall", "density", "coverage", "vendi"},
            "fake_features of 120 of 120 images hold NaN",
        ),
    ],
)  # fmt: skip
def test_a_score_that_is_not_defined_is_left_out_with_its_reason_and_the_others_stay(
    reference, fake, undefined, reason, extractor, every
):
    found, reasons = protocol.score(protocol.Reference(reference, 3), fake, extractor)
    assert set(reasons) == undefined and any(reason in line for line in reasons.values())
    assert set(found) == every - undefined
    assert all(math.isfinite(value) for value in found.values())
    for line in reasons.values():
        assert "\n" not in line and "block_size" not in line and "--" not in line


def test_without_held_out_images_that_are_new_there_is_no_memorisation_ratio(extractor):
    train = outputs(40)
    found, reasons = protocol.score(protocol.Reference(train, 3, train, train), outputs(40, seed=1), extractor)
    assert "Every image of real_test is in real_train" in reasons["memorisation_ratio"] and "precision" in found


@pytest.mark.parametrize(
    ("resolution", "number", "undefined"),
    [
        (8, 30, {"ssim": "SSIM of images of 8 x 8 px"}),
        (32, 30, {}),
        (32, 1, dict.fromkeys(["active_units", "active_units_rank"], "expected 2 or more")),
    ],
)
def test_a_score_of_reconstructions_that_is_not_defined_leaves_the_others(
    resolution, number, undefined, extractor, make_split
):
    split = make_split(30, resolution)
    model = Model(
        None, {"resolution": resolution, "latent_dim": 4}, 0,
        lambda latent, label=None: np.full([len(latent), resolution, resolution, 3], 7, np.uint8),
        lambda images: (np.zeros([len(images), 4]), np.zeros([len(images), 4])), 64, {},
    )  # fmt: skip
    reference = protocol.Reference(outputs(30, features=np.random.default_rng(0).normal(size=(30, 12))), 0)
    rows = np.arange(number)
    found, reasons = protocol.reconstruction_scores(model, (split, rows), (split, rows), reference, extractor)
    assert {"squared_error", "psnr", "ssim", "active_units", "active_units_rank"} - set(found) == set(undefined)
    for name, words in undefined.items():
        assert words in reasons[name]


def test_a_perfect_reconstruction_has_no_finite_psnr_and_all_other_scores(extractor, make_split):
    split = make_split(30)
    images = {image[0, 0].tobytes(): image for image in split.images}
    codes = {key: np.frombuffer(key, np.uint8).astype(float) for key in images}
    model = Model(
        None, {}, 0, lambda latent, label=None: np.stack([images[row.astype(np.uint8).tobytes()] for row in latent]),
        lambda some: (np.stack([codes[image[0, 0].tobytes()] for image in some]), None), 64, {},
    )  # fmt: skip
    rows = np.arange(30)
    reference = protocol.Reference(outputs(30, features=np.random.default_rng(0).normal(size=(30, 12))), 0)
    found, reasons = protocol.reconstruction_scores(model, (split, rows), (split, rows), reference, extractor)
    assert reasons["psnr"] == "for these images it is inf, expected a finite number."
    assert found["squared_error"] == 0 and found["ssim"] == 1


# The command.


@pytest.fixture
def home(tmp_path, monkeypatch):
    """What `tfvae.evaluate` needs: two folders of pictures as train and test of one dataset, and the counting extractor."""
    draw = np.random.default_rng(0)
    for name, number in (("train", 60), ("test", 30)):
        (tmp_path / name).mkdir()
        for i in range(number):
            picture = draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{i:02d}.png")
    true = pipeline.load

    def load(dataset, split="train", **arguments):
        if dataset != "pictures":
            return true(dataset, split, **arguments)
        loaded = true(f"folder:{tmp_path / split}", resolution=arguments.get("resolution"))
        return dataclasses.replace(loaded, dataset=dataset, split=split)

    monkeypatch.setattr(pipeline, "load", load)
    monkeypatch.setattr(pipeline, "held_out_split", lambda dataset, **_: "test" if dataset == "pictures" else None)
    kind = dataclasses.replace(CLASSIFIER, name="counting", flag=None, load=load_counting)
    monkeypatch.setitem(extractors.EXTRACTORS, "counting", kind)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scoring_toys.make_counting()
    return tmp_path


@pytest.fixture
def evaluate(home, run_command):
    """A function: (what `tfvae.evaluate` printed, what it wrote) of noise, or of another source, against `pictures`."""

    def run(*arguments, source="--split=noise"):
        (home / "scores.json").unlink(missing_ok=True)
        given = [source, "--dataset=pictures", "--extractor=counting", f"--output={home / 'scores.json'}"]
        printed = run_command("evaluate", *given, *arguments)
        return printed, json.loads((home / "scores.json").read_text())

    return run


def test_no_more_reference_features_are_extracted_than_images_are_asked_for(evaluate):
    _, found = evaluate("--num_images=8")
    assert sum(counted) == 3 * 8  # drawn, training and held-out images
    assert found["reference"]["memorisation"] == {"training_images": 8, "of": 60, "held_out_images": 8}
    assert "memorisation_ratio_of_8_training_images" in found["scores"] and "memorisation_ratio" not in found["scores"]
    assert scores.find("memorisation_ratio_of_8_training_images") is scores.SCORES["memorisation_ratio"]


def test_the_whole_training_split_is_taken_where_it_is_asked_for(evaluate):
    _, found = evaluate("--num_images=8", "--memorisation=all")
    assert sum(counted) == 8 + 60 + 30
    assert found["reference"]["memorisation"] == {"training_images": 60, "of": 60, "held_out_images": 30}
    assert found["scores"]["memorisation_ratio"]["mean"] > 0
    _, found = evaluate("--num_images=60")  # no more than that are there
    assert "memorisation_ratio" in found["scores"] and found["reference"]["memorisation"]["held_out_images"] == 30


def test_a_study_reads_scores_of_which_some_are_not_defined(evaluate):
    _, found = evaluate("--num_images=8")
    assert results.score_of(found, "precision") and results.score_of(found, "frechet")
    assert results.score_of(found, "score") is None and results.score_of(found, "memorisation_ratio") is None


def test_evaluate_prints_and_writes_what_is_not_defined_and_why(evaluate):
    printed, found = evaluate("--num_images=5")
    assert found["undefined"]["counting_score"].startswith("the score of 5 images in 10 splits")
    assert not set(found["undefined"]) & set(found["scores"]) and "frechet_counting_distance" in found["scores"]
    for name, reason in found["undefined"].items():
        assert sum(line.split() == [*f"{name} not defined: {reason}".split()] for line in printed.splitlines()) == 1
    assert "null" not in json.dumps(found["scores"]).replace('"std": null', "")


def test_scores_that_are_not_defined_for_every_seed_are_left_out(evaluate, monkeypatch):
    true = distances.kernel_distance

    def of_one_seed(*arguments, seed):
        if seed == 1:
            raise ValueError("not of this seed.")
        return true(*arguments, seed=seed)

    monkeypatch.setattr(distances, "kernel_distance", of_one_seed)
    _, found = evaluate("--num_images=12", "--num_seeds=3")
    assert found["undefined"]["kernel_counting_distance"] == "not of this seed."
    assert len(found["scores"]["precision"]["values"]) == 3 and "kernel_counting_distance" not in found["scores"]


def test_images_without_any_score_are_an_error(evaluate, monkeypatch, home):
    nothing = lambda *_, **__: ({}, {"precision": "too few.", "recall": "too few."})  # noqa: E731
    monkeypatch.setattr(protocol, "score", nothing)
    with pytest.raises(UserError, match="^no score is defined for these images: too few.$"):
        evaluate("--num_images=5")
    assert not (home / "scores.json").exists()


def test_evaluate_goes_on_where_nothing_can_be_kept(evaluate, home, monkeypatch):
    kept, with_cache = evaluate("--num_images=12")
    (home / "no_cache").write_text("no folder")
    printed, found = evaluate("--num_images=12", f"--cache_dir={home / 'no_cache'}")
    assert found == with_cache  # the cache is no part of what was measured
    warnings = [
        line for line in printed.splitlines() if line.startswith("warning: features of real images are not kept")
    ]
    assert len(warnings) == 1 and str(home / "no_cache") in warnings[0]
    unknown_home(monkeypatch)
    printed, found = evaluate("--num_images=12")
    assert found == with_cache and printed.count("warning: features of real images are not kept (no home folder") == 1


@pytest.fixture
def of_a_run(home, monkeypatch):
    """`--model_dir` of a run that draws grey pictures."""
    grey = lambda latent, label=None: np.full([len(latent), 32, 32, 3], 99, np.uint8)  # noqa: E731
    flags = {"dataset": "pictures", "resolution": 32, "latent_dim": 4}
    monkeypatch.setattr(run, "load_run", lambda path, *_: Model(path, flags, 0, grey, None, 8, {"weights": "none"}))
    (home / "run").mkdir()
    return f"--model_dir={home / 'run'}"


def test_a_run_whose_curves_cannot_be_written_is_scored(evaluate, of_a_run, home):
    (home / "run" / "logs").write_text("no folder")
    printed, found = evaluate("--num_images=12", source=of_a_run)
    assert found["scores"]["precision"]["mean"] >= 0
    assert [line for line in printed.splitlines() if line.startswith("warning: TensorBoard lacks these scores: ")]


# Scores while training.


@pytest.fixture
def scoring(extractor, make_model, make_split, tmp_path):
    """A function: the callback that scores a model after each step by 16 images, with so many reference images."""

    def make(num_images):
        settings, model = make_model("gan")
        directory = run.RunDirectory(tmp_path / "run")
        directory.best.mkdir(parents=True)
        callback = callbacks.Scores(
            dataclasses.replace(settings, eval_every_images=8, eval_images=16),
            directory,
            tf.summary.create_file_writer(str(directory.logs)),
            make_split(num_images),
            extractor,
            (np.zeros([8, 32, 32, 3], np.uint8), np.zeros(8, np.int32)),
            types.SimpleNamespace(without_gain=False),
        )
        callback.set_model(model)
        return callback

    return make


def step(callback):
    at_step(callback.model, int(callback.model.step.numpy()) + 1)
    callback.on_train_batch_end(0)


def test_training_is_scored_by_what_is_defined_and_goes_on(scoring, monkeypatch, capsys):
    unknown_home(monkeypatch)
    callback = scoring(3)
    callback.on_train_begin()
    step(callback)
    step(callback)
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("warning: features of real images are not kept (no home") for line in printed) == 1
    # Each once, and only of what is shown somewhere.
    assert sum(line.startswith("warning: precision is left out: ") for line in printed) == 1
    assert not [line for line in printed if "standard_error" in line]
    lines = [line for line in printed if " images: frechet_classifier_distance " in line]
    assert len(lines) == 2 and lines[0].endswith(" of 16 images, the best so far")

    monkeypatch.setattr(protocol, "score", lambda *_: ({}, {"precision": "too few."}))
    step(callback)
    assert "images: no score of 16 images" in capsys.readouterr().out
    rows = [json.loads(line) for line in callback.directory.metrics.read_text().splitlines()]
    assert ["frechet_classifier_distance" in row for row in rows] == [True, True, False]
    assert not any("precision" in row for row in rows)
    assert len(list(callback.directory.best.glob("*.json"))) == 1


def test_training_is_told_to_end_where_no_score_was_the_best_for_so_many_images(scoring, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    callback = scoring(3)
    callback.config = dataclasses.replace(callback.config, stop_after_images_without_gain=16)
    callback.on_train_begin()
    distances = iter([5.0, 3.0, 3.0, 4.0])
    monkeypatch.setattr(protocol, "score", lambda *_: ({callback.name: next(distances)}, {}))
    told = []
    for _ in range(4):
        step(callback)
        told.append(callback.saver.without_gain)
    assert told == [False, False, False, True]
    # A training that goes on knows it from the best checkpoint, that at 72 images.
    assert callback.has_ended(88) and not callback.has_ended(87)


def test_scores_of_a_best_checkpoint_that_cannot_be_read_count_as_none(scoring, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    callback = scoring(20)
    (callback.directory.best / "ckpt-8.index").touch()
    for kept in (None, "", "{", "null", "[]", '{"frechet_classifier_distance": null}'):
        if kept is not None:
            (callback.directory.best / "ckpt-8.json").write_text(kept)
        callback.on_train_begin()
        assert callback.least == math.inf, kept
    (callback.directory.best / "ckpt-8.json").write_text('{"frechet_classifier_distance": 1.5}')
    callback.on_train_begin()
    assert callback.least == 1.5


@pytest.mark.parametrize(
    ("kept", "place", "by"),
    [
        ({"frechet_inception_distance": 1.0}, "best_by_another_extractor", "another extractor"),
        (
            {
                "frechet_classifier_distance": 1.0,
                "extractor": {"kind": "classifier", "name": "classifier of cats", "checksum": "ab" * 32},
            },
            "best_by_classifier_abababab",
            "classifier of cats",
        ),
    ],
)
def test_a_best_checkpoint_that_another_extractor_scored_is_kept_and_the_comparison_starts_anew(
    kept, place, by, scoring, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    callback = scoring(20)
    best = callback.directory.best
    (best / "ckpt-8.index").touch()
    (best / "ckpt-8.json").write_text(json.dumps(kept))
    callback.on_train_begin()
    assert callback.least == math.inf and json.loads((best.parent / place / "ckpt-8.json").read_text()) == kept
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "best checkpoint" in line)
    assert line == (
        f"The best checkpoint so far was scored by {by} and is kept in {best.parent / place}; the comparison starts anew by "
        "counting."
    )
    step(callback)
    (scored,) = best.glob("*.json")
    assert json.loads(scored.read_text())["extractor"]["checksum"] == "of a stand-in"
    # The same extractor again: its best one counts.
    callback.on_train_begin()
    assert callback.least < math.inf and (best.parent / place).exists()


# Advice that can be followed.


def test_an_extractor_of_another_size_is_one_line_without_advice_that_may_have_been_followed(extractor, make_split):
    with pytest.raises(ValueError) as error:
        protocol.check_resolution(dataclasses.replace(extractor, resolution=64), make_split(4))
    assert str(error.value) == (
        "counting takes 64 px and the images of random are 32 px here: expected one size, such as that of a classifier trained "
        "with --resolution=32."
    )


@pytest.mark.parametrize(
    ("shape", "advice"),
    [
        ((64, 64), "resize the images, or score at --resolution=64 by an extractor that takes it."),
        ((64, 48), "resize the images."),
    ],
)
def test_pictures_of_another_size_are_one_line_with_advice_that_can_be_followed(shape, advice, tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros([2, *shape, 3], np.uint8))
    with pytest.raises(UserError) as error:
        sources.load_files(tmp_path / "images.npz", 32)
    assert str(error.value).endswith(f"expected one size; {advice}")


# Paths that TensorFlow takes for patterns.


def test_a_classifier_lies_in_any_folder(tmp_path):
    image = keras.Input([32, 32, 3], dtype="uint8")
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    network = keras.Model(image, {"logits": keras.layers.Dense(2)(features), "features": features})
    network.export(str(tmp_path / "plain"), verbose=False)
    facts = {"dataset": "random", "resolution": 32, "class_names": ["a", "é"], "accuracy": 0.25}
    (tmp_path / "plain" / "classifier.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    expected = network(images)["logits"]
    for name in ("plain", "a [2]", "b\\d", "c*", "d?"):
        if name != "plain":
            shutil.copytree(tmp_path / "plain", tmp_path / name)
        loaded = extractors.load(classifier_dir=tmp_path / name)
        np.testing.assert_allclose(loaded(images)["logits"], expected, atol=1e-5)
        assert loaded.class_names == ("a", "é")
