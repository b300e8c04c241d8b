"""`tfvae.sample --num_images`: single pictures, which are those of the endpoint, whatever ranges they are drawn in."""

import collections
import io
import json
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfvae.command import UserError
from tfvae.data import pipeline
from tfvae.drawing import model as drawing
from tfvae.drawing import pictures, prior
from tfvae.publishing import published
from tfvae.scoring import sources


def toy(num_classes=0, facts=None):
    """Draws pictures of one colour: red is the label, green tells the latent's first entry."""

    def generate(latent, label=None):
        picture = np.zeros((len(latent), 4, 4, 3), np.uint8)
        picture[..., 0] = 0 if label is None else label[:, None, None]
        picture[..., 1] = np.clip(latent[:, 0] * 50 + 128, 0, 255).astype(np.uint8)[:, None, None]
        return picture

    flags = {"resolution": 4, "latent_dim": 5}
    sample = drawing.sampler(generate, 5)
    return drawing.Model(None, flags, num_classes, generate, None, 0, facts or {"checkpoint": 1}, sample)


def some(num_classes=0, seed=0, truncation=np.inf, label=None, frequencies=None, **options):
    label = range(num_classes) if num_classes and label is None else label
    return pictures.Pictures(toy(num_classes, **options), seed, truncation, label, frequencies)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def decoded(files):
    return np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])


def test_a_version_s_pictures_are_the_bytes_of_its_signature(gan, run_command, tmp_path):
    said = run_command(
        "sample", f"--saved_model={gan[0]}", "--num_images=7", f"--output={tmp_path / 'p'}", "--seed=5", "--truncation=0.7",
        "--batch_size=3", "--label=2,9",
    )  # fmt: skip
    assert "7 PNG files of 32 px, at most 28.7 kB" in said and "7 pictures drawn" in said
    signature = tf.saved_model.load(str(gan[0])).signatures["sample"]
    for i in range(7):
        label = (2, 9)[i % 2]
        one = signature(
            seed=tf.constant([5 + i], tf.int64), truncation=tf.constant([0.7]), label=tf.constant([label], tf.int32)
        )
        assert (tmp_path / "p" / str(label) / f"{i:06}.png").read_bytes() == one["image_bytes"].numpy()[0]
    assert len(files_of(tmp_path / "p")) == 7


def test_a_run_s_pictures_are_its_version_s_within_a_grey_level(gan, vae):
    for version, settings, objective in (gan, vae):
        of_run = drawing.of_objective(objective, None, vars(settings), {}, replica_batch=4)
        label = np.arange(6, dtype=np.int32) if of_run.num_classes else None
        for truncation in (np.inf, 0.5):
            given = (np.arange(3, 9), np.full(6, truncation, np.float32), label)
            found, expected = (decoded(one.sample(*given)) for one in (of_run, published.load(version)))
            assert np.abs(found.astype(int) - expected).max() <= 1 and found.std() > 5


def test_ranges_give_the_files_of_one_range_and_what_is_there_stays(tmp_path):
    assert pictures.write_folder(tmp_path / "all", some(3, seed=4), np.arange(10), 4) == 0
    for numbers in (np.arange(6, 10), np.arange(3)):
        pictures.write_folder(tmp_path / "parts", some(3, seed=4), numbers, 3)
    (tmp_path / "parts" / "1" / "000001.png").write_bytes(b"mine")
    assert pictures.write_folder(tmp_path / "parts", some(3, seed=4), np.arange(10), 3) == 7
    found, expected = files_of(tmp_path / "parts"), files_of(tmp_path / "all")
    assert found.pop("1/000001.png") == b"mine" and expected.pop("1/000001.png") and found == expected
    assert decoded([found["2/000005.png"]])[0, 0, 0, 0] == 2


@pytest.mark.parametrize(
    "other",
    [
        dict(seed=1),
        dict(truncation=1.0),
        dict(label=[1]),
        dict(facts={"checkpoint": 2}),
    ],
)
def test_a_folder_of_other_pictures_is_refused(other, tmp_path):
    pictures.write_folder(tmp_path, some(3), np.arange(2), 2)
    before = files_of(tmp_path)
    with pytest.raises(
        UserError, match="holds pictures of another (seed|truncation|label|model) .*give another --output"
    ):
        pictures.write_folder(tmp_path, some(3, **other), np.arange(4), 2)
    assert files_of(tmp_path) == before


def test_a_folder_that_an_earlier_release_began_is_gone_on_with(tmp_path):
    pictures.write_folder(tmp_path, some(facts={"flags": {"latent_dim": 5}}), np.arange(2), 2)
    newer = {"flags": {"latent_dim": 5, "of_a_newer_release": 0}}
    assert pictures.write_folder(tmp_path, some(facts=newer), np.arange(4), 2) == 2
    with pytest.raises(UserError, match="pictures of another model"):
        pictures.write_folder(tmp_path, some(facts={"flags": {"latent_dim": 6}}), np.arange(4), 2)


def test_a_folder_of_anything_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds files, and no pictures.json"):
        pictures.write_folder(tmp_path, some(), np.arange(2), 2)
    assert len(list(tmp_path.iterdir())) == 1


def test_without_classes_all_files_lie_in_the_folder(tmp_path):
    pictures.write_folder(tmp_path, some(), np.array([5, 1_234_567]), 8)
    assert set(files_of(tmp_path)) == {"000005.png", "1234567.png"}


def test_folders_of_classes_sort_as_their_numbers(tmp_path):
    pictures.write_folder(tmp_path, some(11), np.arange(11), 8)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [f"{i:02}" for i in range(11)]


@pytest.mark.parametrize("num_classes", [0, 3])
def test_an_npz_holds_the_pictures_of_the_folder_and_is_read_back(num_classes, tmp_path):
    pictures.write_folder(tmp_path / "folder", some(num_classes), np.arange(4, 11), 3)
    pictures.write_npz(tmp_path / "a.npz", some(num_classes), np.arange(4, 11), 3)
    of_number = {name.split("/")[-1]: file for name, file in files_of(tmp_path / "folder").items()}
    expected = decoded([of_number[f"{i:06}.png"] for i in range(4, 11)])
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays.files) == ({"arr_0", "arr_1"} if num_classes else {"arr_0"})
        assert arrays["arr_0"].dtype == np.uint8 and (not num_classes or arrays["arr_1"].dtype == np.int64)
        np.testing.assert_array_equal(arrays["arr_0"], expected)
        if num_classes:
            np.testing.assert_array_equal(arrays["arr_1"], np.arange(4, 11) % 3)
    read, labels = map(np.asarray, next(sources.load_files(tmp_path / "a.npz", 4).batches(7, 0)))
    np.testing.assert_array_equal(read, expected)
    assert not num_classes or labels.tolist() == (np.arange(4, 11) % 3).tolist()


def test_labels_of_the_data_have_its_frequencies_whatever_the_range():
    drawn = some(3, seed=9, label=pictures.DATA, frequencies=np.array([0.2, 0.0, 0.8]))
    labels = drawn.labels(np.arange(1000))
    assert set(labels) == {0, 2} and abs(np.mean(labels == 2) - 0.8) < 0.05
    np.testing.assert_array_equal(drawn.labels(np.arange(500, 700)), labels[500:700])
    expected = [prior.uniform_of_seeds(tf.constant([9 + i], tf.int64), prior.LABEL, [])[0] > 0.2 for i in range(5)]
    np.testing.assert_array_equal(labels[:5] == 2, expected)


def test_the_command_reads_the_data_s_frequencies(gan, run_command, tmp_path, shapes_home):
    version = tmp_path / "gan" / "1"
    shutil.copytree(gan[0], version)
    record = json.loads((version / "assets.extra" / "tfvae.json").read_text())
    record["flags"]["dataset"] = "shapes"
    (version / "assets.extra" / "tfvae.json").write_text(json.dumps(record))
    given = [f"--saved_model={version}", "--num_images=300", "--label=data", f"--output={tmp_path / 'a.npz'}"]
    run_command("sample", *given, f"--data_dir={shapes_home}")
    drawn = collections.Counter(np.load(tmp_path / "a.npz")["arr_1"].tolist())
    labels = pipeline.load("shapes", data_dir=shapes_home).labels
    assert all(abs(drawn[label] / 300 - np.mean(labels == label)) < 0.07 for label in range(10))


def test_what_does_not_fit_the_disk_is_known_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=5000))
    with pytest.raises(UserError, match=r"100 pictures of 4 px need 5.6 kB and 5.0 kB are free there"):
        pictures.write_npz(tmp_path / "a.npz", some(), np.arange(100), 3)
    assert not list(tmp_path.iterdir())
    pictures.write_folder(tmp_path, some(), np.arange(2), 3)  # which can be gone on with
    assert "warning: they may not fit" in capsys.readouterr().out


def test_an_npz_that_fails_leaves_nothing_and_names_the_picture(tmp_path):
    one = some()
    broken = lambda seed, *_: np.array([b"" if i == 5 else b"x" for i in seed], object)  # noqa: E731
    object.__setattr__(one.model, "sample", broken)
    with pytest.raises(UserError, match="picture of seed 5 has NaN or infinity"):
        pictures.write_npz(tmp_path / "a.npz", one, np.arange(4, 8), 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--num_images=5"], "--output is missing"),
        (["--num_images=5", "--output=p", "--sheets=grid"], "--sheets: expected without --num_images"),
        (["--num_images=5", "--output=p", "--animate"], "--animate: expected without --num_images"),
        (["--start=5"], "--start: expected with --num_images alone"),
        (["--output=p"], "--output: expected with --num_images or --animate"),
        (["--num_images=5", "--output=p", "--truncation=0"], "--truncation=0.0: expected more than 0"),
        (["--num_images=5", "--output=p", "--label=cat"], "--label=cat: expected numbers of classes"),
        (["--num_images=5", "--output=p", "--label=data,1"], "--label=data,1: expected numbers of classes"),
        (["--num_images=5", "--output=p", "--label=3,10"], "--label=3,10: expected some of the model's classes, 0 to 9"),
        (["--num_images=5", "--output=p.zip"], "expected a folder for PNG files, or a file that ends in .npz"),
        (["--num_images=5", "--output=p", "--overwrite"], "pictures in a folder are never replaced"),
        (["--num_images=5", "--output=there.npz"], "there.npz exists: give another --output, or --overwrite"),
        (["--num_images=5", "--output=p", f"--seed={2**63 - 3}"], "below 2 to the 63rd"),
        (["--num_images=5", "--output=p", "--label=data"], "unknown dataset 'random'"),
        (["--animate", "--sheets=grid"], "--animate and --sheets: both are given"),
        (["--animate", "--output=a.gif"], "expected an animation that ends in .webp or .png"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_one_line(arguments, line, gan, run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").write_bytes(b"mine")
    with pytest.raises(UserError) as error:
        run_command("sample", f"--saved_model={gan[0]}", *arguments)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"] and (
        tmp_path / "there.npz"
    ).read_bytes() == b"mine"


def test_a_label_for_a_model_without_classes_is_refused(vae, run_command, tmp_path):
    with pytest.raises(UserError, match="--label: the model was trained without labels"):
        run_command("sample", f"--saved_model={vae[0]}", "--num_images=5", f"--output={tmp_path / 'p'}", "--label=0")
