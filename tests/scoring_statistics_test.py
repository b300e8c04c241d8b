"""Reference statistics: the same Fréchet distance without the data, files of other tools, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import scoring_toys
from PIL import Image
from scipy import linalg
from scoring_toys import CLASSIFIER, counted, load_counting

from tfvae.command import UserError
from tfvae.data import pipeline
from tfvae.drawing.model import Model
from tfvae.scoring import distances, extractors, protocol, statistics
from tfvae.training import run

pytestmark = pytest.mark.filterwarnings("ignore:.*rank-deficient")


def test_the_distance_of_moments_is_that_of_the_formula():
    draw = np.random.default_rng(0)
    real, fake = draw.normal(size=(50, 4)) @ draw.normal(size=(4, 4)), draw.normal(size=(30, 4)) + 1
    (m, c), (n, d) = statistics.moments(real), statistics.moments(fake)
    expected = np.sum((m - n) ** 2) + np.trace(c + d - 2 * linalg.sqrtm(c @ d).real)
    assert distances.frechet_distance_of_moments(m, c, n, d) == pytest.approx(expected)
    assert distances.frechet_distance_of_moments(m, c, n, d) == pytest.approx(distances.frechet_distance(real, fake))


@pytest.fixture
def extractor():
    return scoring_toys.make_counting()


@pytest.fixture
def saved(extractor, make_split, tmp_path):
    """A file of the statistics of 40 images, and its arrays."""
    split = make_split(40, num_classes=3)
    outputs = protocol.outputs_of_split(split, extractor, None)
    statistics.save(tmp_path / "real.npz", outputs, extractor, split)
    with np.load(tmp_path / "real.npz") as arrays:
        return tmp_path / "real.npz", dict(arrays)


def test_statistics_say_what_they_are_of(saved, extractor):
    found = statistics.load(saved[0], extractor)
    assert found.facts["num_images"] == 40 and found.facts["checksum"] == extractor.checksum
    assert found.facts["dataset"] == "random" and found.facts["split"] == "train" and found.facts["resolution"] == 32
    assert found.class_counts.sum() == 40


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            dict(checksum="another"),
            r"is of classifier \(SHA-256 another; images: .*\), and the extractor is classifier",
        ),
        (dict(preparation="other"), "images: other"),
        (dict(num_images=1), "is of 1 images: expected 2 or more"),
        (dict(sigma=np.eye(11)), r"expected \[D\] and \[D, D\]"),
        (dict(mu=np.zeros(5), sigma=np.eye(5)), "is of 5 features, and counting makes 12"),
        (dict(sigma=np.triu(np.ones([12, 12]))), "sigma is not symmetric"),
        (dict(sigma=np.diag([-1.0] + [1.0] * 11)), "sigma has an eigenvalue of -1"),
        (dict(sigma=np.full([12, 12], np.nan)), "NaN or infinity"),
        (dict(mu=np.full(12, np.inf)), "NaN or infinity"),
        (dict(mu=None), "has no array 'mu'"),
        (dict(dataset=None), "lacks dataset"),
        (dict(mu=np.array([None] * 12)), "cannot be read"),
        (dict(checksum=None), "does not say which extractor it is of"),
    ],
)
def test_what_are_no_statistics_of_the_extractor_is_one_line(changes, line, saved, extractor):
    file, arrays = saved
    np.savez(file, **{name: array for name, array in (arrays | changes).items() if array is not None})
    with pytest.raises(ValueError, match=line) as error:
        statistics.load(file, extractor)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def test_a_damaged_file_is_one_line(saved, extractor):
    for content in (b"", b"no archive", saved[0].read_bytes()[:300]):
        saved[0].write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read"):
            statistics.load(saved[0], extractor)


def test_other_tools_files_are_read_for_inception_alone(saved, extractor):
    file, arrays = saved
    np.savez(file, mu=arrays["mu"].astype(np.float32), sigma=arrays["sigma"].astype(np.float32))
    inception = dataclasses.replace(extractor, kind=extractors.EXTRACTORS["inception"])
    found = statistics.load(file, inception)
    assert found.facts == {} and found.class_counts is None
    np.testing.assert_allclose(found.covariance, arrays["sigma"], rtol=1e-5)


# The command.


@pytest.fixture
def evaluate(tmp_path, run_command, monkeypatch):
    """A function: what `tfvae.evaluate` of a folder of 60 pictures as train and 40 as test printed."""
    draw = np.random.default_rng(0)
    for name, number in (("train", 60), ("test", 40)):
        (tmp_path / name).mkdir()
        for i in range(number):
            picture = np.kron(draw.integers(0, 256, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)
            Image.fromarray(picture).save(tmp_path / name / f"{i:02d}.png")
    true = pipeline.load

    def load(dataset, split="train", **arguments):
        loaded = true(f"folder:{tmp_path / split}", resolution=arguments.get("resolution"))
        labels = (np.arange(loaded.num_images) % 4).astype(np.int32)
        return dataclasses.replace(loaded, dataset=dataset, split=split, num_classes=4, labels=labels)

    monkeypatch.setattr(pipeline, "load", load)
    monkeypatch.setattr(pipeline, "held_out_split", lambda dataset, **_: "test")
    kind = dataclasses.replace(CLASSIFIER, name="counting", flag=None, load=load_counting)
    monkeypatch.setitem(extractors.EXTRACTORS, "counting", kind)
    scoring_toys.make_counting()
    return lambda *arguments: run_command("evaluate", "--extractor=counting", *arguments)


def test_saved_statistics_give_the_distance_without_the_data(evaluate, tmp_path, monkeypatch):
    file, scores = tmp_path / "real.npz", tmp_path / "scores.json"
    evaluate("--dataset=pictures", f"--save_reference={file}", "--num_images=50")
    with pytest.raises(UserError, match="exists: give another --save_reference, or --overwrite"):
        evaluate("--dataset=pictures", f"--save_reference={file}")
    evaluate("--split=noise", "--dataset=pictures", "--num_images=50", f"--output={scores}")
    with_data = json.loads(scores.read_text())["scores"]["frechet_counting_distance"]["mean"]
    monkeypatch.setattr(pipeline, "load", None)  # would fail if it were called
    counted.clear()
    printed = evaluate("--split=noise", f"--reference={file}", "--num_images=50", f"--output={scores}", "--overwrite")
    found = json.loads(scores.read_text())
    assert found["scores"]["frechet_counting_distance"]["mean"] == pytest.approx(with_data)
    assert list(found["scores"]) == ["frechet_counting_distance"] and found["reference"]["images"] == 50
    assert sum(counted) == 50 + 1  # a black image tells the width
    assert f"50 images against 50 of pictures train ({file})" in printed
    with pytest.raises(UserError, match="is of images of 32 px, and those to score are of 16 px"):
        evaluate("--split=noise", f"--reference={file}", "--resolution=16", f"--output={tmp_path / 'other.json'}")


def test_of_another_tools_file_it_is_said_what_is_not_known(evaluate, tmp_path, monkeypatch):
    kind = dataclasses.replace(extractors.EXTRACTORS["counting"], has_papers_names=True)
    monkeypatch.setitem(extractors.EXTRACTORS, "counting", kind)
    file, scores = tmp_path / "other.npz", tmp_path / "scores.json"
    np.savez(file, mu=np.full(12, 0.5), sigma=0.01 * np.eye(12))
    arguments = ["--split=noise", f"--reference={file}", "--num_images=60", f"--output={scores}"]
    with pytest.raises(UserError, match="--resolution is missing"):
        evaluate(*arguments)
    printed = evaluate(*arguments, "--resolution=32")
    assert f"warning: {file} says neither how many images it is of, of which dataset and size, nor" in printed
    found = json.loads(scores.read_text())
    assert found["scores"]["frechet_inception_distance"]["mean"] > 0
    assert found["reference"]["images"] is None and found["reference"]["dataset"] is None


def test_a_conditional_model_draws_the_labels_that_the_reference_has(evaluate, tmp_path, monkeypatch):
    file, scores, drawn = tmp_path / "real.npz", tmp_path / "scores.json", []

    def generate(latent, label):
        drawn.extend(label)
        return np.full([len(latent), 32, 32, 3], 60, np.uint8)

    model = Model(None, {"dataset": "pictures", "resolution": 32, "latent_dim": 4}, 4, generate, None, 8, {})
    monkeypatch.setattr(run, "load_run", lambda *_: model)
    evaluate("--dataset=pictures", f"--save_reference={file}")
    with np.load(file) as arrays:
        arrays = dict(arrays)
    np.savez(file, **arrays | {"class_counts": np.array([0, 45, 0, 15])})
    arguments = [f"--model_dir={tmp_path}", f"--reference={file}", "--num_images=60", f"--output={scores}"]
    evaluate(*arguments)
    assert set(drawn) == {1, 3} and drawn.count(1) > drawn.count(3)
    np.savez(file, **arrays | {"class_counts": np.array([30, 30])})
    with pytest.raises(UserError, match="trained on 4 classes and pictures has 2"):
        evaluate(*arguments, "--overwrite")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--save_reference=x.npz"], "--dataset is missing"),
        (["--save_reference=x.npz", "--split=test", "--dataset=pictures"], "--split and --save_reference given"),
        (["--save_reference=/proc/none/x.npz", "--dataset=pictures"], "cannot be written"),
        (["--reference=absent.npz", "--split=noise"], "absent.npz: there is no such file"),
        (["--reference=absent.npz", "--calibrate", "--dataset=pictures"], "without --calibrate"),
        (["--calibrate"], "--dataset is missing"),
        (["--calibrate", "--dataset=pictures", "--output=x.png"], "the figure would lie there"),
        (["--calibrate", "--dataset=pictures", "--output=/proc/none/x.json"], "cannot be written"),
    ],
)
def test_wrong_flags_are_one_line_before_the_work(arguments, line, evaluate):
    with pytest.raises(UserError, match=line):
        evaluate(*arguments)
    assert not counted


def test_calibrate_writes_a_table_and_a_figure(evaluate, tmp_path):
    output = tmp_path / "calibration.json"
    printed = evaluate("--dataset=pictures", "--calibrate", "--num_images=40", f"--output={output}")
    found = json.loads(output.read_text())
    distance = {row["name"]: row["scores"]["frechet_counting_distance"] for row in found["rows"]}
    assert [row["images"] for row in found["rows"] if "held-out images" in row["name"]][:4] == [40, 20, 8, 4]
    assert distance["blurred by 0.5 px"] < distance["blurred by 3 px"]
    of_classes = next(row for row in found["rows"] if row["name"] == "1 of 4 classes")
    assert of_classes["images"] == 10
    repeated = next(row for row in found["rows"] if row["name"] == "4 of them, 10 times each")
    assert (repeated["images"], repeated["different"]) == (40, 4)
    alike = next(row for row in found["rows"] if row["name"] == "both blurred by 2 px: held-out images")
    assert alike["reference"] == "blurred by 2 px" and alike["scores"]["precision"] > 0.5
    assert found["protocol"]["extractor"]["checksum"] and found["reference"]["images"] == 40
    assert Image.open(output.with_suffix(".png")).width > 500
    assert "real images, as they are and spoilt, against 40 of pictures train" in printed


def test_held_out_images_that_are_too_few_to_calibrate_with_are_left_out(evaluate, tmp_path):
    output = tmp_path / "calibration.json"
    evaluate("--dataset=pictures", "--calibrate", "--num_images=50", f"--output={output}")
    found = json.loads(output.read_text())
    assert found["images_of"]["split"] == "train" and found["reference"]["images"] == 30
